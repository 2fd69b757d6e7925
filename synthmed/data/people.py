"""What tells who a person is: names, IDs and dates within free texts, file names that look like people's, places."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date

# Shorter parts of a name are looked for as whole words only: "an" stands in many words that name nobody.
_SUBSTRING = 4
_WORD = re.compile(r"[^\W_]+")
_LETTERS_OR_DIGITS = re.compile(r"[^\W\d_]+|\d+")
_IDEOGRAPHIC = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_CAMEL = re.compile(r"(?<=[a-z\u00df-\u00f6\u00f8-\u00ff])(?=[A-Z\u00c0-\u00d6\u00d8-\u00de])")
_LIGATURES = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)
# What NFKD leaves as it is.
_STROKES = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"})
_SPELLED_OUT = re.compile("([aou])e|aa")

_TECHNICAL = """
abdomen abdominal acute adc adrenal adult algorithm angio annotation anomaly anterior aorta arm arterial artery atlas
atrium axial background batch benign bilateral biopsy bladder blood body bone bottom bowel brain brats breast bronchus
caecum calcification cancer cardiac carotid case cases cavity cbct center centre cerebellum cerebral cervical channel
chest child class clinic clinical cohort coil colon contrast control cor core coronal cortex cranial crop ct cta cyst
data dataset deep delayed derived diagnosis diagnostic dicom diffusion disc disease distal dixon dose dti duodenum dwi
dynamic early echo ed edema enhancing epi esophagus export eye face fast fat female femoral femur field fiesta final
flair flow fold follow followup foot foreground frame frontal fs fundus gallbladder gland glioma gradient gray gre
grey ground group hand head healthy heart hemorrhage hepatic high hip hippocampus hospital hu ignore iliac image
images imaging img infarct inferior inner input instance institut institute insula intestine inversion ir ischemic jaw
joint kidney klinik klinikum knee label labels large late lateral leber left leg lesion level liver lobe localizer
long low lower lumbar lung lymph main male malignant mammo mandible map mask masks mass medial median medical medulla
meningioma metastasis mid middle mild mip modality model moderate mpr mprage mr mra mri mucosa multi muscle myocardium
nasal native neck necrosis negative nerve neuro new node nodule none normal number occipital oct oedema oesophagus old
optic oral orbit organ original other outer output ovary parietal parotid part patient patients pd pelvic pelvis
perfusion pet phantom phase photo pituitary plain plane pons portal positive post posterior pre predicted prediction
primary proband proc processed prone prostate protocol proton proximal pulmonary qc quality raw rectal rectum
recurrence reference region registered renal resampled retina rib right roi sacrum sag sagittal sample scan scanner
scans screening se seg segment segmentation sequence series session set severe short side site skin skull slab slice
slices small soft source space spect spin spine spleen splenic split stack standard stenosis stent sternum stomach
structure study sub subj subject subjects superior supine surface swi synthetic target task temporal test thalamus
thick thigh thin thorax throat thyroid tibia time timepoint tir tissue tof tongue tooth top total tra trachea train
training transversal transverse true truth tse tumor tumour turbo ultrasound unknown upper ureter urinary us uterus
val validation valve vascular vein vena venous ventricle version vertebra vertebrae vessel vibe view visit vol volume
volumes volunteer wall water weighted white whole window with without wrist xray year zone
"""
TECHNICAL = frozenset(_TECHNICAL.split())
"""Words of anatomy and imaging, which name nobody although somebody may be called so."""
_PARTICLES = """
al and anon anonym anonymised anonymized anonymous ben bin da de deidentified del della den der di dr du el ibn ii iii
jr la le md med mrs ms noname phd prof pseudonym sr st the und van von zu zur
"""
# Parts of people's names, and what stands for one, that tell nobody from others: LA is the left atrium, too.
_NO_NAMES = frozenset(_PARTICLES.split())
_SETS = """
acrin adni amos april august chase covid decathlon december demo drive dummy example february friday isic january july
june kits kvasir lidc lits luna march may monai monday nlst nnunet november oasis october private public saturday
september stare sunday tcga thursday totalsegmentator tuesday wednesday
"""
# What names of files hold beside people's names and words of imaging.
_HABITUAL = TECHNICAL | frozenset(_SETS.split())


class Identity:
    """What headers say of people, institutions and dates, to be kept out of every name.

    Args:
        texts: Values of such elements: names with `^` between their parts and `=` between the ways of writing them,
            IDs, numbers, dates as YYYYMMDD.
    """

    def __init__(self, texts: Iterable[str]):
        self._known: dict[str, bool] = {}
        parts: set[str] = set()
        self._whole: set[str] = set()
        for text in set(texts):
            parts.update(_dates(text))
            for spelling in re.split(r"[=\\]", text):
                for folded in _foldings(spelling):
                    words = _WORD.findall(folded)
                    parts.update(words)
                    if len(words) > 1:
                        self._whole.update(("".join(words), "".join(reversed(words))))
        # A single letter, or a number below 100, tells nobody apart and stands in half of all descriptions.
        self._parts = {
            part
            for part in parts - TECHNICAL - _NO_NAMES
            if (len(part) > 1 or _IDEOGRAPHIC.match(part)) and not (part.isdecimal() and len(part) < 3)
        }
        self._within = {part for part in self._parts if len(part) >= (2 if _IDEOGRAPHIC.search(part) else _SUBSTRING)}
        self._whole = {name for name in self._whole if len(name) >= (2 if _IDEOGRAPHIC.search(name) else _SUBSTRING)}

    def is_revealed_by(self, text: str) -> bool:
        """Return whether any part of what is known of the people stands in `text`.

        Case, accents and ways of writing umlauts do not matter: MÜLLER is Mueller is Muller. Parts of two or three
        letters count as whole words, longer ones anywhere but within a word of anatomy or imaging (`TECHNICAL`).
        """
        if text not in self._known:
            self._known[text] = self._stands_in(text)
        return self._known[text]

    def _stands_in(self, text: str) -> bool:
        for folded in (*_foldings(text), *_foldings(_CAMEL.sub(" ", text))):
            words = _WORD.findall(folded)
            joined = "".join(words)
            if any(name in joined for name in self._whole):
                return True
            words = [word for word in words if word not in TECHNICAL]
            pieces = {piece for word in words for piece in _LETTERS_OR_DIGITS.findall(word)}
            if not self._parts.isdisjoint(pieces.union(words)):
                return True
            joined = "".join(words)
            if any(part in joined for part in self._within):
                return True
        return False


def _foldings(text: str) -> set[str]:
    """Return a text without case and accents, in the ways in which umlauts are written: `u`, `ue`, and `ue` as `u`."""
    plain = _plain(text)
    composed = unicodedata.normalize("NFKC", text).casefold()
    return {plain, _plain(composed.translate(_LIGATURES)), _SPELLED_OUT.sub(lambda found: found[1] or "a", plain)}


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(sign for sign in folded if not unicodedata.combining(sign)).translate(_STROKES)


def _dates(text: str) -> Iterator[str]:
    """Yield the usual ways of writing a date that stands as YYYYMMDD, its separators left out."""
    match = re.fullmatch(r"((?:18|19|20)\d\d)(\d\d)(\d\d)", text)
    if match is None or not _is_date(text):
        return
    year, month, day = match.groups()
    for own in (year, year[2:]):
        yield from (f"{own}{month}{day}", f"{day}{month}{own}", f"{month}{day}{own}")
    name = date(2000, int(month), 1).strftime("%b").casefold()
    yield from (f"{day}{name}{year}", f"{int(day)}{name}{year}", f"{int(day)}{int(month)}{year}")


def _is_date(digits: str) -> bool:
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return False
    return True


_ABSOLUTE = re.compile(r"(?<![\w./\\<-])(?:~|[A-Za-z]:)?[/\\](?:[^\s:;,'\"()<>/\\]+[/\\]?)+")


def without_places(text: str, known: Iterable[str] = ()) -> str:
    """Return a text with "..." in the place of absolute paths, whose folders may be named after people.

    Args:
        text: Such as what an error said.
        known: Paths that may stand in it, which may have spaces.
    """
    for place in sorted({place for place in known if len(place) > 1}, key=len, reverse=True):
        text = text.replace(place, "...")
    return _ABSOLUTE.sub("...", re.sub(r"\.\.\.[/\\][^\s:;,'\"()<>]*", "...", text))


# As DICOM writes a name, or as a list of people does: "SMITH^JOHN", "Doe, Jane".
_NAME_SIGNS = re.compile(r"[^\W\d_]{2,}(?:\^|,[ _]?)[^\W\d_]{2,}")
_DATE = re.compile(r"(?<!\d)(?:(?:19|20)\d{6}|(?:19|20)\d\d[-._]\d\d[-._]\d\d|\d\d[-._]\d\d[-._](?:19|20)\d\d)(?!\d)")
_YEAR = re.compile(r"(?<!\d)(?:19\d\d|200\d|201[0-2])(?!\d)")
_PART = re.compile(r"[^\W\d_]+|\d+")
_HEXADECIMAL = re.compile(r"[a-fA-F]+")
# Hardly a scan was filed by its date before: an earlier date is one of birth.
_FIRST_SCANS = 1975
# From so many cases on, what many of them are called is no person's name.
_SEVERAL = 4


def look_like_people(names: Iterable[str]) -> list[str]:
    """Return those of a data set's names of cases that look like names or dates of birth of people.

    Only habits that are hard to mistake count: `SMITH^JOHN`; `Doe, Jane`; two words beside each other that begin with
    capital letters, as in `Mueller_Anna`; words beside a date or a year, as in `mueller_anna_1961`; a date before 1975,
    or one that is the whole name. Words of anatomy and imaging, and those in the names of many cases, name nobody.
    """
    known = list(names)
    counts = Counter(word for name in known for word in {_plain(part) for part in _parts(name)})
    common = {word for word, count in counts.items() if len(known) >= _SEVERAL and count > max(2, len(known) / 4)}
    return [name for name in known if _looks_like_one(name, _HABITUAL | common)]


def _looks_like_one(name: str, habitual: frozenset[str]) -> bool:
    if _NAME_SIGNS.search(name):
        return True
    dates = [found for found in map(_digits, _DATE.findall(name)) if _is_date(found)]
    if any(int(found[:4]) < _FIRST_SCANS for found in dates) or (dates and _DATE.fullmatch(name)):
        return True
    parts = _parts(name)
    words = [_is_name(part, habitual) for part in parts]
    capital = [word and part[0].isupper() for word, part in zip(words, parts, strict=True)]
    if _side_by_side(capital):
        return True
    years = [int(year) for year in _YEAR.findall(name)]
    born = any(year < _FIRST_SCANS for year in years)
    # In small letters only beside a date: too many data sets are named so without.
    return bool((dates and any(words)) or (years and (any(capital) or _side_by_side(words))) or (born and any(words)))


def _side_by_side(found: list[bool]) -> bool:
    return any(one and other for one, other in zip(found, found[1:], strict=False))


def _digits(text: str) -> str:
    """Return a date as YYYYMMDD."""
    digits = re.sub(r"\D", "", text)
    return digits if re.match(r"\d{4}", text) else f"{digits[4:]}{digits[2:4]}{digits[:2]}"


def _parts(name: str) -> list[str]:
    return _PART.findall(_CAMEL.sub(" ", name))


def _is_name(part: str, habitual: frozenset[str]) -> bool:
    """Return whether a part may be a person's name: `Anna`, `MUELLER`, `mueller`; abbreviations and hashes are none."""
    written = part.istitle() or (len(part) > 3 and (part.isupper() or part.islower()))
    if len(part) < 3 or not written or (_HEXADECIMAL.fullmatch(part) and not part.istitle()):
        return False
    plain = _plain(part)
    return not {plain, plain.removesuffix("s")} & habitual
