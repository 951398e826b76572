"""Retraining: from MLflow alone to a challenger, which becomes champion only if it wins.

    1 table     the comparison table is rebuilt from the runs
    2 duel      challenger and champion answer the same held-out pairs (`training.duel`)
    3 fit       the challenger is fitted on the whole table
    4 register  it becomes a version, with the verdict in its tags and `foretune.decision` = pending
    5 alias     where it won, the alias moves: one write, if it still points where it did at step 1
    6 record    `foretune.decision` = promoted, kept or abandoned

A process killed at any step loses nothing: before 4 nothing has changed, from 4 on the next retraining finds the pending version
and carries its verdict out. Two at once are kept apart by a lease in the registry. Should both hold it, the registry's numbers
decide: at step 5 a version makes way for a lower one that is pending, and the alias moves only from where it was at step 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import DataError, FailedError, UserError
from training.duel import Verdict, duel
from training.fit import fit, reference_table, register_default
from training.tracking import RANKER

if TYPE_CHECKING:
    import pandas as pd

    from ranker import LearningToCompare

DECISION, REASON = "foretune.decision", "foretune.reason"
VERDICT, PREVIOUS = "foretune.verdict", "foretune.previous"
REFERENCE = "foretune.reference"
MARGIN, CONFIDENCE = 0.01, 0.9


@dataclass(frozen=True)
class Decision:
    """What a retraining decided; as text, the line to print.

    Attributes
    ----------
    action : promoted, kept, unchanged (nothing new to learn from), abandoned (another retraining was first), rolled back; with
        `dry_run`, what would have been
    reason : why
    name, champion, challenger : the ranker's name, the version under the alias now (None in a dry run before there is one), and
        the challenger's version (None where none was registered)
    figures : the verdict of the duel; {} where there was none
    """

    action: str
    reason: str
    name: str
    champion: str | None
    challenger: str | None = None
    dry_run: bool = False
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        verb = f"would be {self.action}" if self.dry_run else self.action
        champion = f"{self.name} version {self.champion}" if self.champion else "the default ranker"
        return f"{verb}: {self.reason}; champion: {champion}"


def _stderr(line: str) -> None:
    print(f"foretune retrain: {line}", file=sys.stderr, flush=True)


def retrain(
    *,
    name: str = RANKER,
    dry_run: bool = False,
    rollback: bool = False,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    splits: int = 10,
    seed: int = 0,
    features: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    root: Path | str | None = None,
    say: Callable[[str], None] = _stderr,
) -> Decision:
    """Rebuild the table, fit a challenger, compare, and move the alias `champion` if it wins.

    It wins if its pairwise accuracy on held-out checkpoints exceeds the champion's by `margin` or more, and a bootstrap over
    checkpoints finds it the better with probability `confidence` or more. While there is no champion, the default ranker is
    registered as one, and is the one to beat.

    Parameters
    ----------
    dry_run : say what would happen, change nothing
    rollback : give the alias back to the version that the champion replaced; nothing is fitted
    margin : in accuracy, 0.01 = one pair in a hundred
    splits, seed : of the duel's hold-outs
    features : columns to use; None: all of the table's
    params : parameters of the challenger's `LearningToCompare`
    say : receives a line for each step

    Raises
    ------
    UserError : nothing to roll back to, settings out of range
    DataError : MLflow holds nothing to learn from
    FailedError : another retraining is running
    StoreError : MLflow cannot be reached, or the champion is corrupt
    """
    from training import tracking

    tracking.check_name(name)
    if dry_run and rollback:
        raise UserError("dry run and rollback at once", where="retrain", remedy="choose one")
    if not (0 <= margin < 1 and 0 < confidence < 1 and splits >= 1):
        raise UserError(
            f"margin {margin}, confidence {confidence}, splits {splits}",
            where="retrain",
            remedy="margin 0 to 1, confidence within 0 and 1",
        )
    if dry_run:
        return _Retraining(name, margin, confidence, splits, seed, features, params, root, say, dry=True).decide()
    with tracking.lease(name, root=root):
        if rollback:
            return _roll_back(name, root, say)
        return _Retraining(name, margin, confidence, splits, seed, features, params, root, say, dry=False).decide()


@dataclass
class _Retraining:
    name: str
    margin: float
    confidence: float
    splits: int
    seed: int
    features: Sequence[str] | None
    params: Mapping[str, Any] | None
    root: Path | str | None
    say: Callable[[str], None]
    dry: bool

    def decide(self) -> Decision:
        from training import tracking

        table = tracking.comparison_table(root=self.root)
        digest = tracking.table_digest(table)
        self.say(f"1 table: {len(table)} rows, {table['checkpoint'].nunique()} checkpoints, {table['task'].nunique()} tasks")
        champion = self._champion()
        pending, settled = self._earlier(digest, champion)
        if pending is not None:
            return self._carry_out(*pending)
        if settled:
            return self._done("unchanged", settled, champion)
        ranker, old = self._champion_as_fitted(champion)
        try:
            verdict = duel(
                table,
                old,
                champion_params=ranker.get_params(),
                champion_features=list(ranker.feature_names_in_),
                challenger_params=self.params,
                features=self.features,
                splits=self.splits,
                seed=self.seed,
            )
        except DataError as error:
            return self._done("unchanged", f"no comparison is possible: {error}", champion)
        wins, reason = self._judge(verdict, champion)
        self.say(f"2 duel: {reason}")
        if self.dry:
            return self._done("promoted" if wins else "kept", reason, champion, figures=verdict.to_dict())
        challenger = fit(table, features=self.features, params=self.params)
        challenger.card_["duel"] = verdict.to_dict()
        self.say("3 fit: the challenger is fitted on the whole table")
        version = tracking.register_ranker(
            challenger,
            table,
            {f"duel.{k}": v for k, v in verdict.to_dict().items() if isinstance(v, int | float)},
            self.name,
            params={**challenger.get_params(), "margin": self.margin, "confidence": self.confidence, "splits": self.splits},
            tags={
                DECISION: "pending",
                VERDICT: "promote" if wins else "keep",
                REASON: reason,
                PREVIOUS: champion or "",
                "foretune.margin": self.margin,
                "foretune.confidence": self.confidence,
            },
            report=verdict.to_dict(),
            derived=True,
            root=self.root,
        )
        self.say(f"4 register: version {version}")
        return self._carry_out(version, wins, reason, champion, verdict.to_dict())

    def _champion(self) -> str | None:
        """The champion's version. Where there is none, the default ranker becomes it (not in a dry run: None)."""
        from training import tracking

        version = tracking.alias_version(self.name, root=self.root)
        if version is not None or self.dry:
            return version
        known = [v for v in tracking.versions(self.name, root=self.root) if v.tags.get(REFERENCE) == "true"]
        version = str(known[0].version) if known else register_default(self.name, root=self.root)
        tracking.move_alias(self.name, version, expected=None, root=self.root)
        self.say(f"  no champion yet: the default ranker is registered as version {version}")
        return tracking.alias_version(self.name, root=self.root)

    def _champion_as_fitted(self, champion: str | None) -> tuple[LearningToCompare, pd.DataFrame]:
        """The champion, whose parameters and columns are its recipe, and its training table."""
        from ranker.reference.kept import kept_ranker
        from training import tracking

        if champion is None:
            return kept_ranker(self.root), reference_table()
        ranker, _ = tracking.load_version(self.name, champion, root=self.root)
        table = tracking.training_table(self.name, champion, root=self.root)
        if table is None:
            raise FailedError(
                "its training table was not kept, so nobody knows which checkpoints it has seen",
                where=f"{self.name} version {champion}",
                remedy="register a champion with `foretune train TABLE`",
            )
        return ranker, table if "zoo" in table.columns else table.assign(zoo="")

    def _earlier(self, digest: str, champion: str | None) -> tuple[tuple[str, bool, str, str | None] | None, str]:
        """What earlier retrainings left: a pending verdict on this very table to carry out, or why there is nothing new ("":
        there is).
        """
        from training import tracking
        from training.tracking.runs import DIGEST

        found = tracking.versions(self.name, root=self.root)
        for version in found:
            tags, number = version.tags, str(version.version)
            if tags.get(DECISION) != "pending":
                continue
            if tags.get(DIGEST) == digest and tags.get(PREVIOUS) == champion:
                self.say(f"  version {number} was left pending by a retraining that was cut off")
                return (number, tags.get(VERDICT) == "promote", tags.get(REASON, ""), champion), ""
            if not self.dry:  # cut off between moving the alias and recording it, or overtaken by newer outcomes
                action = "promoted" if number == champion else "abandoned"
                tracking.tag_version(self.name, number, {DECISION: action}, root=self.root)
        for version in found:
            tags, number = version.tags, str(version.version)
            if tags.get(DIGEST) != digest:
                continue
            if number == champion:
                return None, f"nothing new since version {number} was fitted"
            if tags.get(PREVIOUS) == champion and tags.get(DECISION) in ("kept", "rolled back"):
                return None, f"nothing new since version {number}, which was fitted on the same table and {tags[DECISION]}"
        return None, ""

    def _judge(self, verdict: Verdict, champion: str | None) -> tuple[bool, str]:
        wins = verdict.difference >= self.margin and verdict.probability >= self.confidence
        against = f"version {champion}" if champion else "the default ranker"
        text = (
            f"{verdict.challenger:.3f} against {verdict.champion:.3f} of {against} on {verdict.pairs} held-out pairs of "
            f"{verdict.checkpoints} checkpoints ({verdict.splits} splits); difference {verdict.difference:+.3f} "
            f"[{verdict.interval[0]:+.3f}, {verdict.interval[1]:+.3f}], better with probability {verdict.probability:.3f}; "
            f"asked for: {self.margin:+.3f} or more with probability {self.confidence:g} or more"
        )
        return wins, text

    def _carry_out(
        self, version: str, wins: bool, reason: str, champion: str | None, figures: dict[str, Any] | None = None
    ) -> Decision:
        """Steps 5 and 6 for a registered challenger."""
        from training import tracking

        action = "kept"
        if self.dry:
            return self._done("promoted" if wins else "kept", reason, champion, challenger=version, figures=figures)
        rival = self._rival(version) if wins else None
        if rival is not None:
            action, reason = "abandoned", f"version {rival} of another retraining was first; " + reason
        elif wins:
            if tracking.move_alias(self.name, version, expected=champion, root=self.root):
                action = "promoted"
                self.say(f"5 alias: champion is version {version}, it was version {champion}")
            else:
                champion = tracking.alias_version(self.name, root=self.root)
                reason = f"the champion became version {champion} meanwhile; " + reason
        tracking.tag_version(self.name, version, {DECISION: action, REASON: reason}, root=self.root)
        self.say(f"6 record: {action}")
        return self._done(action, reason, version if action == "promoted" else champion, challenger=version, figures=figures)

    def _rival(self, version: str) -> str | None:
        """An earlier version that is pending still: of a retraining that runs at the same time, lease or not.

        The registry numbers versions one after the other, so of two that got here together one sees the other, and leaves.
        """
        from training import tracking

        pending = [int(v.version) for v in tracking.versions(self.name, root=self.root) if v.tags.get(DECISION) == "pending"]
        return str(min(pending)) if pending and min(pending) < int(version) else None

    def _done(
        self,
        action: str,
        reason: str,
        champion: str | None,
        *,
        challenger: str | None = None,
        figures: dict[str, Any] | None = None,
    ) -> Decision:
        return Decision(action, reason, self.name, champion, challenger, self.dry, figures or {})


def _roll_back(name: str, root: Path | str | None, say: Callable[[str], None]) -> Decision:
    """The alias goes back to the version that the champion replaced."""
    from training import tracking

    current = tracking.alias_version(name, root=root)
    if current is None:
        raise UserError(f"{name!r} has no champion", where="rollback", remedy="fit one with `foretune train TABLE`")
    found = tracking.find_version(name, current, root=root)
    previous = found.tags.get(PREVIOUS, "")
    if not previous:
        raise UserError(f"version {current} replaced no other", where="rollback", remedy="there is nothing to go back to")
    tracking.find_version(name, previous, root=root)
    reason = f"version {current} was rolled back to version {previous}"
    # Said before it is done: killed in between, the next retraining finds a champion and not a version to bring back.
    before = {key: found.tags.get(key, "") for key in (DECISION, REASON)}
    tracking.tag_version(name, current, {DECISION: "rolled back", REASON: reason}, root=root)
    say(f"1 record: {reason}")
    if not tracking.move_alias(name, previous, expected=current, root=root):
        tracking.tag_version(name, current, before, root=root)
        raise FailedError("the champion moved meanwhile", where="rollback", remedy="look at it and try again")
    say(f"2 alias: champion is version {previous}")
    return Decision("rolled back", reason, name, previous, current)
