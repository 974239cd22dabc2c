"""Every metric there is: its card, and where its code stands.

A new metric is a line here and a file beside; see docs/metrics.md.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mild_bench.errors import BadInput
from mild_bench.metrics.cag.scores import TraceMeasure
from mild_bench.metrics.layered import LayerMeasure
from mild_bench.metrics.view import Measure, Settings
from mild_bench.score import REGIONS, MetricCard

AnyMeasure = Measure | LayerMeasure | TraceMeasure


@dataclass(frozen=True)
class Entry:
    """A metric's card, and ``module:function`` that takes Settings and returns its Measure."""

    card: MetricCard
    maker: str

    def make(self, settings: Settings) -> AnyMeasure:
        """Set the metric up.

        Raises:
            MissingPart: its weights are not on this machine.
        """
        module, name = self.maker.split(":")
        maker: Callable[[Settings], AnyMeasure] = getattr(importlib.import_module(module), name)
        return maker(settings)


_LPIPS = "Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018 (1801.03924)"
_CLIP = "Radford et al., Learning Transferable Visual Models, ICML 2021 (2103.00020)"

METRICS = (
    Entry(
        MetricCard(
            "psnr", "PSNR", "1", "higher", 0, 100, "dB", REGIONS, ("truth",),
            "ITU-T J.247 annex; skimage.metrics.peak_signal_noise_ratio",
            "pixel error against the truth on a log scale; equal pictures get 100",
        ),
        "mild_bench.metrics.pixel:psnr_measure",
    ),
    Entry(
        MetricCard(
            "ssim", "SSIM", "1", "higher", -1, 1, "", REGIONS, ("truth",),
            "Wang et al., Image Quality Assessment, IEEE TIP 2004",
            "likeness of local brightness, contrast and structure to the truth",
        ),
        "mild_bench.metrics.pixel:ssim_measure",
    ),
    Entry(
        MetricCard(
            "lpips-alex", "LPIPS (AlexNet)", "1", "lower", 0, math.inf, "", REGIONS,
            ("truth", "weights"), _LPIPS,
            "distance to the truth in the features of AlexNet, weighted by human judgments",
        ),
        "mild_bench.metrics.perceptual:alex_measure",
    ),
    Entry(
        MetricCard(
            "lpips-vgg", "LPIPS (VGG-16)", "1", "lower", 0, math.inf, "", REGIONS,
            ("truth", "weights"), _LPIPS,
            "distance to the truth in the features of VGG-16, weighted by human judgments",
        ),
        "mild_bench.metrics.perceptual:vgg_measure",
    ),
    Entry(
        MetricCard(
            "clip-similarity", "CLIP similarity", "1", "higher", -1, 1, "", ("whole", "hole"),
            ("truth", "weights"), _CLIP,
            "cosine between the CLIP embeddings of result and truth",
        ),
        "mild_bench.metrics.semantic:similarity_measure",
    ),
    Entry(
        MetricCard(
            "clip-person", "CLIP person gap", "1", "lower", 0, 1, "", ("whole", "hole"),
            ("truth", "weights"), _CLIP,
            "how much CLIP's probability of a person differs between result and truth",
        ),
        "mild_bench.metrics.semantic:person_measure",
    ),
    Entry(
        MetricCard(
            "residue", "Residue", "1", "lower", 0, 1, "share", ("hole", "outside"), ("truth",),
            "mild-bench; see docs/metrics.md",
            "how far the result is on the way from the truth back to the person",
        ),
        "mild_bench.metrics.residue:residue_measure",
    ),
    Entry(
        MetricCard(
            "seam", "Seam", "1", "lower", 0, 1, "of full range", ("band",), ("truth",),
            "mild-bench; see docs/metrics.md",
            "steps along the mask's outline beyond those of the truth",
        ),
        "mild_bench.metrics.seam:seam_measure",
    ),
    Entry(
        MetricCard(
            "bystander", "Bystander change", "1", "lower", 0, 1, "of full range",
            ("hole", "outside"), ("bystanders",), "mild-bench; see docs/metrics.md",
            "mean absolute change of the visible people who were to stay", harm=True,
        ),
        "mild_bench.metrics.bystander:bystander_measure",
    ),
    Entry(
        MetricCard(
            "cag", "CAG", "1", "higher", -math.inf, math.inf, "nats", ("hole",), ("attention",),
            "purpose: MILD (2508.06543); formula: mild-bench, see docs/cag.md",
            "how far the model's attention from the hole prefers background to people",
        ),
        "mild_bench.metrics.cag.scores:cag_measure",
    ),
    Entry(
        MetricCard(
            "leakage", "Leakage", "1", "lower", 0, 1, "share", ("hole",), ("attention",),
            "mild-bench; see docs/cag.md",
            "how much of the model's attention from the hole goes to people",
        ),
        "mild_bench.metrics.cag.scores:leakage_measure",
    ),
    Entry(
        MetricCard(
            "alpha-iou", "Alpha IoU", "1", "higher", 0, 1, "", ("whole", "hidden"), ("layers",),
            "Gao et al., Coarse-to-Fine Amodal Segmentation, ICCV 2023 (2308.16825)",
            "overlap of each layer with the complete person, or with what is hidden of them",
        ),
        "mild_bench.metrics.alpha_iou:iou_measure",
    ),
    Entry(
        MetricCard(
            "hidden-lpips", "Hidden-part LPIPS", "1", "lower", 0, math.inf, "", ("hidden",),
            ("layers", "weights"), _LPIPS,
            "distance of each layer to the complete person, AlexNet, where the person is hidden",
        ),
        "mild_bench.metrics.hidden_lpips:hidden_measure",
    ),
    Entry(
        MetricCard(
            "recompose-psnr", "Recomposition PSNR", "1", "higher", 0, 100, "dB", ("visible",),
            ("layers",), "mild-bench; see docs/metrics.md",
            "whether background and layers give the input back where the erased people show",
        ),
        "mild_bench.metrics.recomposition:recompose_measure",
    ),
)  # fmt: skip


def metric_cards() -> tuple[MetricCard, ...]:
    """Return the card of every metric, in table order."""
    return tuple(entry.card for entry in METRICS)


def entries_for(lpips_nets: tuple[str, ...]) -> tuple[Entry, ...]:
    """Return the metrics of a protocol: all but the LPIPS backbones it does not name.

    Raises:
        BadInput: a backbone that there is no metric for.
    """
    known = [e.card.metric.removeprefix("lpips-") for e in METRICS if _is_lpips(e)]
    for net in lpips_nets:
        if net not in known:
            near = difflib.get_close_matches(net, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"lpips_nets: expected any of {', '.join(known)}, got {net!r}{hint}")
    wanted = {f"lpips-{net}" for net in lpips_nets}
    return tuple(e for e in METRICS if not _is_lpips(e) or e.card.metric in wanted)


def choose(entries: tuple[Entry, ...], names: Collection[str] | None) -> tuple[Entry, ...]:
    """Return the named metrics, or all.

    Raises:
        BadInput: a name that is not among them.
    """
    known = [entry.card.metric for entry in entries]
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"metrics: expected any of {', '.join(known)}, got {name!r}{hint}")
    return tuple(entry for entry in entries if names is None or entry.card.metric in names)


def _is_lpips(entry: Entry) -> bool:
    return entry.card.metric.startswith("lpips-")
