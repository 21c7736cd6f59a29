"""The fonts of the pictures, by split.

All come with packages pinned in requirements.txt, under open licences: DejaVu (Bitstream Vera licence), STIX (OFL) and
Computer Modern (BaKoMa) with matplotlib; Roboto and Caladea (Apache-2.0); Manrope, Hanken Grotesk, Source Sans Pro,
Source Serif Pro and Fredoka One (OFL).
"""

from __future__ import annotations

import functools
import importlib.resources

from PIL import ImageFont

_MATPLOTLIB = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "STIXGeneral",
    "STIXGeneralBol", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
TRAINING_FONTS = (
    *(f"matplotlib/mpl-data/fonts/ttf/{name}.ttf" for name in _MATPLOTLIB),
    *(f"font_roboto/files/Roboto-{style}.ttf" for style in ("Regular", "Bold", "Italic", "Light")),
    *(f"font_caladea/files/Caladea-{style}.ttf" for style in ("Regular", "Bold", "Italic")),
    *(f"font_manrope/files/Manrope-{style}.ttf" for style in ("Regular", "Bold")),
    *(f"font_hanken_grotesk/files/HankenGrotesk-{style}.otf" for style in ("Regular", "Bold", "Italic")),
)
# Whole families, so that no style of a held-out font was seen in another weight.
HELD_OUT_FONTS = (
    "font_source_sans_pro/files/SourceSansPro-Regular.ttf",
    "font_source_sans_pro/files/SourceSansPro-Semibold.ttf",
    "font_source_serif_pro/files/SourceSerifPro-Regular.ttf",
    "font_source_serif_pro/files/SourceSerifPro-Bold.ttf",
    "font_fredoka_one/files/FredokaOne-Regular.ttf",
)


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font by its place in its package, `size` pixels an em."""
    package, _, rest = name.partition("/")
    return ImageFont.truetype(str(importlib.resources.files(package) / rest), size)
