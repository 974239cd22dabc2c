"""What the numbers mean, in words; what belongs to the paper and what is our reading."""

from __future__ import annotations

import math
from statistics import median

from mild_bench.theory.experiment import Findings
from mild_bench.theory.model import (
    BACKGROUND_TOKENS,
    BLOCK,
    HEADS,
    PERSON_TOKENS,
    PICTURES,
    WEIGHT_DECAY,
    WIDTH,
)


def prose(findings: Findings, slopes: str) -> str:
    """Return the page ``theory.md``."""
    return "\n".join(
        [_head(findings), "## Slopes\n", slopes, _hard(findings), _decay(findings),
         _condition(findings), _bias(findings), _limits()]
    )  # fmt: skip


def _head(findings: Findings) -> str:
    settings = findings.settings
    return f"""# The theory, checked on a small model

The paper (MILD, arXiv 2508.06543) speaks of two theorems. The public text that this project could
read gives their purpose, not their exact statements. **Our reading**: *Theorem 1*, the Hessian of
the layered loss has no foreground-background block when cross-domain attention is cut, and one
that falls like exp(-gamma) when every query favours its own side by a margin gamma; *Theorem 2*,
spatially-modulated attention (SMA) raises gamma by its bias. Where a sentence below goes further
than that, it is ours alone.

{settings.models} models (seed {settings.seed}), each trained anew at every separation:
{len(findings.rows)} trainings to a largest gradient entry of
{max(row.gradient for row in findings.rows):.1e}, in float64. A model has {HEADS} heads, width
{WIDTH}, {PICTURES} pictures of {PERSON_TOKENS} person and {BACKGROUND_TOKENS} background tokens,
{BLOCK} foreground and {BLOCK} background parameters (keys and values of that side's tokens), and
frozen queries and outputs. The layered loss is the sum of the background branch's and the person
branch's losses; weight decay ({WEIGHT_DECAY:g}) makes the minimum a point. The margin gamma is the
smallest over queries of (least own-side logit - greatest cross-side logit). Slopes are fitted
where gamma > 0, that is where every query prefers every key of its own side, one line a model;
intervals resample the models (percentile bootstrap, which is a little narrow for few models).
"""


def _hard(findings: Findings) -> str:
    hard = [row.cross for row in findings.rows if row.way == "hard"]
    return f"""## Cut attention: no block (Theorem 1)

![The Hessian of one model](hessian.png)

With cross-domain logits of -inf the foreground-background block is exactly 0, in every entry, in
{sum(value == 0 for value in hard)} of {len(hard)} models (largest norm {max(hard):g}).
"""


def _decay(findings: Findings) -> str:
    slack = min(row.slack for row in findings.rows if not math.isnan(row.slack))
    floor = [rows[-1] for rows in findings.of("one-sided").values()]
    last, first = (
        median(r.cross for r in floor),
        median(rows[0].cross for rows in findings.of("one-sided").values()),
    )
    return f"""## A margin: exp(-gamma) (Theorem 1)

![The block against the margin](coupling.png)

The block is made of what a branch reads of the other side, and that is at most
|X|/|O| exp(-gamma) of what it reads of its own: this bound held for every query of every model, the
nearest came within {slack:.2f} nats of it. To first order the block is linear in that share, so its
slope tends to -1. Where features tell the sides apart, the gain differs between queries: gamma
follows the slowest of them, the others separate faster, and a fitted slope may lie off -1 on either
side. Below gamma = 0 attention is mixed and no slope is promised.

**What the theorem needs (our finding)**: both branches must favour their own side. With only the
background branch separated, its own part of the block falls as promised, but the person branch
still reads the background and the whole block stays (median norm {first:.2g} without separation,
{last:.2g} at the strongest). A high CAG of the erased tokens alone does not decouple training.
"""


def _condition(findings: Findings) -> str:
    free = [row for row in findings.rows if row.given == 0]
    hard = [row for row in findings.rows if row.way == "hard"]
    definite = sum(not math.isnan(row.kappa) for row in findings.rows)
    above = sum(row.kappa >= row.kappa_apart * (1 - 1e-9) for row in findings.rows)
    lower = sum(b.kappa < a.kappa for a, b in zip(free, hard, strict=True))
    return f"""## Condition number (a consequence of Theorem 1, our reading)

![Condition against the margin](condition.png)

The Hessian was positive definite in {definite} of {len(findings.rows)} models. Taking its cross
block away never raised the condition number kappa ({above} of {definite}; this is a law of
symmetric matrices). Without separation the block costs a factor of
{median(row.kappa / row.kappa_apart for row in free):.2f} (median); what it adds vanishes with
slope -2, since eigenvalues that lie apart feel it in second order. The coupling rho, which decides
what is left after each side was preconditioned by itself, (1 + rho) / (1 - rho), falls with slope
-1: that number is {median(row.preconditioned for row in free):.1f} without separation and
{median(row.preconditioned for row in hard):.1f} when cut (medians).

kappa itself need not fall: it goes to that of the two diagonal blocks, which change as well when a
model is trained under another separation. It was {median(row.kappa for row in free):.0f} without
separation and {median(row.kappa for row in hard):.0f} when cut (medians), and lower when cut in
{lower} of {len(hard)} models.
"""


def _bias(findings: Findings) -> str:
    margin = max(abs(shift.margin - shift.added) for shift in findings.shifts)
    cag = max(abs(shift.cag - shift.added) for shift in findings.shifts)
    short = total = 0
    for rows in findings.of("bias").values():
        for row in rows[1:]:
            total += 1
            short += row.margin - rows[0].margin < row.given - 1
    return f"""## SMA's bias (Theorem 2)

![Margin and CAG against the bias](bias.png)

At fixed weights a bias alpha[s, t] shifts margin and CAG of branch s by exactly
alpha[s, own] - alpha[s, other]: over {len(findings.shifts)} random biases the largest difference
was {margin:.1e} (gamma) and {cag:.1e} nats (CAG), which is rounding. This is algebra, and so a
check of the code rather than a discovery. The logit gap shifts by the same amount.

Trained anew with the bias, a model may answer it: in {short} of {total} trainings the margin of the
weaker branch gained over 1 nat less than the bias gave, because single queries learned logits that
reach across. Against the margin that was *measured*, the block of models separated by SMA falls as
that of models separated by their features: it is gamma that counts, not how it came about.
"""


def _limits() -> str:
    return """## What this does not show

One attention layer with frozen queries, random pictures and a least-squares loss is no proof for a
UNet. Depth, cross-branch parameters (a shared adapter couples the sides whatever attention does),
norms and convolutions add paths that these theorems do not speak of. The constants in front of
exp(-gamma) are those of this model; only the slopes and the zeros are meant to carry over.
"""
