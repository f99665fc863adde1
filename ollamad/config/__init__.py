"""The configuration: what can be set (`schema`), how it is read and checked (`load`), how it is shown (`render`)."""

from ollamad.config.load import Loaded, Setting, load, parse_flag, read
from ollamad.config.schema import Config

__all__ = ["Config", "Loaded", "Setting", "load", "parse_flag", "read"]
