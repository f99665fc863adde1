"""`[control]`: the unix socket."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The unix socket that ollamactl uses. Who may connect may look; who may change things is said here."""

    socket: Annotated[
        str,
        Meta(
            min_length=1,
            description=(
                '"auto": $OLLAMAD_SOCKET, else /run/ollamad/control.sock where that can be written, else below'
                " $XDG_RUNTIME_DIR, else below /tmp/ollamad-UID. ollamactl looks in the same places."
            ),
        ),
    ] = "auto"
    owner: Annotated[
        str, Meta(description='The user who owns the socket; "" is the one that ollamad runs as. Another needs root.')
    ] = ""
    group: Annotated[
        str, Meta(description='The group whose members may connect, and look; "" is the group that ollamad runs as.')
    ] = ""
    mode: Annotated[
        str,
        Meta(
            pattern=r"^0?[0-7]{3}$",
            extra={"expected": 'a mode in octal, in quotes, such as "0660"'},
            description="The socket's mode; to connect is to write to it. Never writable for all.",
        ),
    ] = "0660"
    operators: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Users, by name or number, who may change things, beside root, the owner and ollamad's own."),
    ] = ()
    group_may_change: Annotated[
        bool, Meta(description="Whether all who may connect may change things too, not look only.")
    ] = False
    operations_kept: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Long operations that are over and can still be asked about; the oldest go first.",
        ),
    ] = 32
    progress_kept: Annotated[
        int,
        Meta(ge=10, le=100_000, description="Steps of one operation's progress that are kept; the oldest go first."),
    ] = 1000
