"""What a new configuration changes: which keys, which of them must wait for a new ollamad, and which children. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ollamad.config.schema import Access, Config, Control, Models, Status
from ollamad.fleet.plan import ChildPlan

NEEDS_NEW_OLLAMAD: Final = frozenset(
    {
        "proxy.listen",
        "proxy.allow_unauthenticated",
        "proxy.tls_certificate",
        "proxy.tls_key",
        "proxy.connect_timeout_s",
        "gpus.sample_interval_s",
        "gpus.call_timeout_s",
        "gpus.rediscover_interval_s",
        "gpus.unanswered_max_s",
        "gpus.recover_after_s",
        "gpus.recover_max_s",
        *(f"access.{key}" for key in Access.__struct_fields__),
        "routing.state_dir",
        "service.ready_wait_s",
        "supervision.lines_kept",
        *(f"control.{key}" for key in Control.__struct_fields__),
        *(f"models.{key}" for key in Models.__struct_fields__),
        *(f"status.{key}" for key in Status.__struct_fields__),
    }
)
"""Keys that are read once, when ollamad starts."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What there is to do with the children."""

    kept: tuple[ChildPlan, ...]
    """The children that stay, as they are planned now; they keep their names."""
    added: tuple[ChildPlan, ...]
    removed: tuple[str, ...]

    @property
    def plans(self) -> tuple[ChildPlan, ...]:
        """All children afterwards."""
        return self.kept + self.added


def changed_keys(before: Config, after: Config) -> tuple[str, ...]:
    """The keys whose values differ, `table.key` each."""
    old, new = _keys(before), _keys(after)
    return tuple(key for key in new if old[key] != new[key])


def in_force(before: Config, after: Config) -> Config:
    """The new configuration as far as it is taken into use: of what is read once, what was read goes on being true.

    What is worked out from such a key beside its reader, as the time that telemetry may take, would else be wrong.
    """
    tables = {name: getattr(after, name) for name in after.__struct_fields__}
    for key in NEEDS_NEW_OLLAMAD:
        table, _, name = key.partition(".")
        tables[table] = msgspec.structs.replace(tables[table], **{name: getattr(getattr(before, table), name)})
    return Config(**tables)


def waiting_keys(first: Config, now: Config) -> list[str]:
    """The keys whose new values wait for a new ollamad, by what this one was started with."""
    return [key for key in changed_keys(first, now) if key in NEEDS_NEW_OLLAMAD]


def compare(present: Sequence[ChildPlan], wanted: Sequence[ChildPlan]) -> Difference:
    """Which children stay. A child is its GPUs: an index may have moved on to another; without one it is its name."""
    there = {_identity(plan): plan for plan in present}
    kept = tuple(there[_identity(plan)] for plan in wanted if _identity(plan) in there)
    names = {plan.id for plan in kept}
    added = tuple(_named(plan, names) for plan in wanted if _identity(plan) not in there)
    removed = tuple(plan.id for plan in present if plan not in kept)
    return Difference(kept, added, removed)


def _identity(plan: ChildPlan) -> frozenset[str]:
    return frozenset(gpu.uuid for gpu in plan.gpus) or frozenset({plan.id})


def _named(plan: ChildPlan, taken: set[str]) -> ChildPlan:
    """The plan under a name that no child has which stays: indexes move when a GPU falls off the bus."""
    if plan.id not in taken:
        return plan
    return ChildPlan(f"{plan.id}-{plan.gpus[0].uuid[4:12]}", plan.gpus)


def _keys(config: Config) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(config)
    return {f"{table}.{key}": value for table, keys in tables.items() for key, value in keys.items()}
