"""What is different between two contracts of one application, and what can go on all the same.

Two questions: can rows that were stored under the one be encoded for the other, and can a policy
that was made for the one answer for the other? Both with the reasons, in words for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.observation import Categorical, Feature, Numeric, Vector
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.contracts.contract import Contract


class FeatureChange(NamedTuple):
    """What becomes of one feature.

    Args:
        what: `replaced`: there is one of that name before and after, of another kind or length.
        words: how it changes, for people; empty where it is kept.
        has_default: whether the new one has a value for contexts that lack it.
    """

    name: str
    what: Literal["kept", "changed", "added", "removed", "replaced"]
    words: str = ""
    has_default: bool = False


@dataclass(frozen=True)
class ContractChange:
    """From one contract to another.

    Args:
        features: of the context, in the order of the new observation, then those that are gone.
        item_features: the same of an item to rank.
        labels_kept, labels_added, labels_removed: what a mask covers: `label`, of parts
            `part=label`; in the order of their contract.
        actions: what else is different about the actions, in words.
        rows_obstacles: why no row can be encoded anew; empty: rows can.
        rows_doubts: which single rows cannot be.
        policy_obstacles: why no policy can be carried over; empty: policies can.
    """

    before: Contract
    after: Contract
    features: tuple[FeatureChange, ...]
    item_features: tuple[FeatureChange, ...]
    labels_kept: tuple[str, ...]
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    actions: tuple[str, ...]
    rows_obstacles: tuple[str, ...]
    rows_doubts: tuple[str, ...]
    policy_obstacles: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing changes for rows and policies; a default may be another."""
        return self.before.fingerprint == self.after.fingerprint and (
            self.before.choices == self.after.choices
        )

    @property
    def problem_changed(self) -> bool:
        """Whether decisions stood alone before and follow each other now, or the reverse."""
        return self.before.problem != self.after.problem

    @property
    def rows_can_be_encoded(self) -> bool:
        """Whether a row of the old contract can be one of the new; see `rows_doubts`."""
        return not self.rows_obstacles

    @property
    def policy_can_be_carried(self) -> bool:
        """Whether a policy of the old contract can answer for the new."""
        return not self.policy_obstacles

    def words(self) -> list[str]:
        """All that is different, one line each."""
        lines = []
        if self.problem_changed:
            lines.append(f"problem: {self.before.problem} → {self.after.problem}")
        for where, changes in (("feature", self.features), ("item feature", self.item_features)):
            lines += [f"{where} {one.name!r}: {one.words}" for one in changes if one.what != "kept"]
        lines += [f"new label {label!r}" for label in self.labels_added]
        lines += [f"label {label!r} is gone" for label in self.labels_removed]
        return lines + list(self.actions)


def compare(before: Contract, after: Contract) -> ContractChange:
    """What changes from one contract to another of the same application."""
    features = _compare_features(before.features, after.features)
    item_features = _compare_features(before.item_features, after.item_features)
    obstacles, actions, row_obstacles, doubts = _compare_actions(before.actions, after.actions)
    if before.problem != after.problem:
        obstacles.insert(
            0,
            f"the problem is {after.problem} now and was {before.problem}: what a decision is "
            "worth is another thing",
        )
    policy_obstacles = list(obstacles)
    row_obstacles = obstacles + row_obstacles
    for where, old, new, changes in (
        ("context", before.features, after.features, features),
        ("item", before.item_features, after.item_features, item_features),
    ):
        if old and not any(one.what in ("kept", "changed") for one in changes):
            policy_obstacles.append(f"no feature of the {where} is left of those it was made for")
        found = _rows_without({f.name: f for f in old}, {f.name: f for f in new}, changes)
        row_obstacles += found[0]
        doubts += found[1]
    kept, added, removed = _labels(before.actions, after.actions)
    return ContractChange(
        before,
        after,
        features,
        item_features,
        kept,
        added,
        removed,
        tuple(actions),
        tuple(row_obstacles),
        tuple(doubts),
        tuple(policy_obstacles),
    )


def _labels(
    before: Actions, after: Actions
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Labels that both have, that only the new one has, that only the old one has."""
    old, new = (
        actions.choices if isinstance(actions, (Discrete, Parts)) and actions.shape.segments else ()
        for actions in (before, after)
    )
    return (
        tuple(label for label in new if label in old),
        tuple(label for label in new if label not in old),
        tuple(label for label in old if label not in new),
    )


def same_feature(before: Feature, after: Feature) -> bool:
    """Whether one stands for the same number (or label) as the other, whatever its bounds."""
    return type(before) is type(after) and (
        not isinstance(before, Vector) or before.length == after.length  # type: ignore[union-attr]  # of one type
    )


def _compare_features(
    before: Sequence[Feature], after: Sequence[Feature]
) -> tuple[FeatureChange, ...]:
    old = {feature.name: feature for feature in before}
    changes = []
    for feature in after:
        has_default = feature.default is not None
        was = old.pop(feature.name, None)
        if was is None:
            words = "new, with a default" if has_default else "new, without a default"
            changes.append(FeatureChange(feature.name, "added", words, has_default))
        elif not same_feature(was, feature):
            words = f"{_kind(was)} → {_kind(feature)}"
            changes.append(FeatureChange(feature.name, "replaced", words, has_default))
        else:
            words = ", ".join(_different(was, feature))
            what: Literal["changed", "kept"] = "changed" if words else "kept"
            changes.append(FeatureChange(feature.name, what, words, has_default))
    return (*changes, *(FeatureChange(name, "removed", "gone") for name in old))


def _kind(feature: Feature) -> str:
    length = f" of {feature.length} numbers" if isinstance(feature, Vector) else ""
    return f"{type(feature).__name__}{length}"


def _different(before: Feature, after: Feature) -> list[str]:
    """What is different about a feature but its default, in words."""
    words = []
    if isinstance(before, (Numeric, Vector)) and isinstance(after, (Numeric, Vector)):
        for name in ("low", "high"):
            was, now = getattr(before, name), getattr(after, name)
            if was != now:
                words.append(f"{name} {_number(was)} → {_number(now)}")
    elif isinstance(before, Categorical) and isinstance(after, Categorical):
        if before.values is not None and after.values is not None:
            words += [
                f"new value {value!r}" for value in after.values if value not in before.values
            ]
            words += [
                f"value {value!r} is gone" for value in before.values if value not in after.values
            ]
            if not words and before.values != after.values:
                words.append("its values in another order")
        elif before.values is not None or after.values is not None or before.size != after.size:
            words.append(f"{_set(before)} → {_set(after)}")
    return words


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"


def _set(feature: Categorical) -> str:
    return f"{feature.size} {'buckets' if feature.values is None else 'values'}"


def _rows_without(
    old: dict[str, Feature], new: dict[str, Feature], changes: Sequence[FeatureChange]
) -> tuple[list[str], list[str]]:
    """Why no stored context has what the new encoder needs, and why some have not."""
    obstacles, doubts = [], []
    for change in changes:
        name = change.name
        if change.what == "added" and not change.has_default:
            obstacles.append(
                f"feature {name!r} is new and has no default: no stored context holds it; give it "
                "a default"
            )
        elif change.what == "replaced":
            obstacles.append(
                f"feature {name!r} is another kind of value ({change.words}) than stored contexts "
                "hold; give the new one a name of its own, and a default"
            )
        elif change.what in ("kept", "changed"):
            was, now = old[name], new[name]
            if was.default is not None and now.default is None:
                doubts.append(f"rows that lack {name!r}, which has no default any more")
            if isinstance(was, Categorical) and isinstance(now, Categorical):
                gone = set(was.values or ()) - set(now.values or ())
                if now.values is not None and was.values is None:
                    doubts.append(f"rows whose {name!r} is not one of {list(now.values)}")
                elif now.values is not None and gone:
                    doubts.append(f"rows whose {name!r} is one of {sorted(gone)}")
    return obstacles, doubts


def _compare_actions(
    before: Actions, after: Actions
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Obstacles for rows and policies, other differences, obstacles for rows, doubts for rows."""
    if before.kind != after.kind:
        return [f"actions are {after.kind} now and were {before.kind}"], [], [], []
    if isinstance(before, Parts) and isinstance(after, Parts):
        return _compare_parts(before, after)
    if isinstance(before, Ranking) and isinstance(after, Ranking):
        return _compare_rankings(before, after)
    return _compare_single(before, after, "")


def _compare_parts(
    before: Parts, after: Parts
) -> tuple[list[str], list[str], list[str], list[str]]:
    obstacles = [f"part {name!r} is new" for name in after.parts if name not in before.parts]
    obstacles += [f"part {name!r} is gone" for name in before.parts if name not in after.parts]
    words: list[str] = []
    rows: list[str] = []
    doubts: list[str] = []
    for name, part in after.parts.items():
        if (was := before.parts.get(name)) is None:
            continue
        if was.kind != part.kind:
            obstacles.append(f"part {name!r} is {part.kind} now and was {was.kind}")
            continue
        found = _compare_single(was, part, f"part {name!r}: ")
        for all_found, some in zip((obstacles, words, rows, doubts), found, strict=True):
            all_found += some
    return obstacles, words, rows, doubts


def _compare_rankings(
    before: Ranking, after: Ranking
) -> tuple[list[str], list[str], list[str], list[str]]:
    words: list[str] = []
    rows: list[str] = []
    doubts: list[str] = []
    if before.k != after.k:
        words.append(f"places of the list: {before.k} → {after.k}")
        rows.append(f"a list has {after.k} places now, and stored ones have {before.k}")
    if before.most_items != after.most_items:
        words.append(f"most items of a request: {before.most_items} → {after.most_items}")
    if before.most_items > after.most_items:
        doubts.append(f"rows with more than {after.most_items} items")
    return [], words, rows, doubts


def _compare_single(
    before: Actions, after: Actions, where: str
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Of labels, or of numbers in a box; `where`: of which part."""
    obstacles: list[str] = []
    words: list[str] = []
    doubts: list[str] = []
    if isinstance(before, Discrete) and isinstance(after, Discrete):
        gone = [label for label in before.labels if label not in after.labels]
        if len(gone) == len(before.labels):
            obstacles.append(f"{where}none of the labels {gone} is left")
        elif gone:
            doubts.append(f"{where}rows in which one of {gone} was chosen")
        if (before.features is None) != (after.features is None):
            words.append(f"{where}actions have {'no ' if after.features is None else ''}features")
        elif before.features is not None and after.features is not None:
            same = [label for label in after.labels if label in before.features]
            changed = [one for one in same if before.features[one] != after.features[one]]
            words += [f"{where}other features of the action {label!r}" for label in changed]
    if isinstance(before, Continuous) and isinstance(after, Continuous):
        if before.length != after.length:
            obstacles.append(f"{where}{after.length} numbers now, and {before.length} before")
        elif (before.low, before.high) != (after.low, after.high):
            words.append(f"{where}bounds {_box(before)} → {_box(after)}")
            both = zip(before.low, before.high, after.low, after.high, strict=True)
            if any(low > least or high < most for least, most, low, high in both):
                doubts.append(f"{where}rows whose numbers lie outside {_box(after)}")
    return obstacles, words, [], doubts


def _box(actions: Continuous) -> str:
    return ", ".join(
        f"[{low:g}, {high:g}]" for low, high in zip(actions.low, actions.high, strict=True)
    )
