"""The decisions about one request: which HDUs, which boxes, which headers, how many bytes."""

from __future__ import annotations

import hashlib
import re
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.cutout.beams import has_beams, is_beams, lacks_planes, rows_of_planes
from soda_service.cutout.companions import header_of_plane, is_companion, plane_for, rule_of
from soda_service.cutout.form import BLANK, PLAIN, Edge, Packing, format_fill
from soda_service.cutout.places import NotQuickError, Places, quick_box
from soda_service.cutout.plan import CutoutPlan, HduPlan
from soda_service.cutout.selection import format_hdu_name, named, of_detail
from soda_service.cutout.tables import WHOLE, MovedTables, Whole
from soda_service.errors import UsageError
from soda_service.fits.cards import card, commentary, render_cards
from soda_service.fits.header import empty_primary
from soda_service.fits.proof import MOST_MAS, with_proof_cards
from soda_service.fits.stepping import stepped_header
from soda_service.fits.wcs import counts_in_the_parents_pixels
from soda_service.geometry.frames import Frame
from soda_service.geometry.pixelbox import PixelBox, SteppedBox
from soda_service.geometry.shapes import Interval
from soda_service.pixels.filled import Filling, Mask, sign_offset, stored_value
from soda_service.render.fits import has_sums, padding_size, with_checksum_cards
from soda_service.render.headertext import MEDIA_TYPE as TEXT, header_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from soda_service.catalog.dataset import Detail
    from soda_service.cutout.companions import Plane
    from soda_service.cutout.places import FindBox
    from soda_service.cutout.prepared import PreparedDataset, PreparedHdu
    from soda_service.cutout.request import CutoutRequest
    from soda_service.fits.tablerows import BinaryTable

FITS_MEDIA_TYPE: Final = "application/fits"
GZIP_MEDIA_TYPE: Final = "application/gzip"

_SUFFIXES: Final = {Packing.NONE: "", Packing.TILES: ".fz", Packing.GZIP: ".gz"}

_NOT_KEPT: Final = "  positions are not true here: TPU counts in pixels of the parent"

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]")
_LONGEST_PART: Final = 80

COVERAGE: Final = "CUTCOVER"
"""Keyword of the part of a frame's pixels that the parent has."""

_Placed = tuple["PreparedHdu", "PixelBox | Whole | None"]


class Planner:
    """The decisions about one request; used once."""

    def __init__(
        self,
        prepared: PreparedDataset,
        request: CutoutRequest,
        find_box: FindBox,
        *,
        most_mas: float = MOST_MAS,
    ) -> None:
        """*most_mas* is how many milliarcseconds a cutout may be wrong by, where it is proved."""
        self._most_mas = most_mas
        self._prepared = prepared
        self._dataset = prepared.dataset
        self._request = request
        self._places = Places(request, find_box)
        self._left_out: list[bytes] = []
        """Cards that say which HDUs are not in the answer, being untrue of it."""
        self._is_primary_bare = False
        self._may_block = find_box is not quick_box
        self._image_offset: tuple[int, ...] = ()
        """First pixels of the image that companions go with, where they do not go whole."""
        self._planes: dict[int, Plane] = {}
        """By number of the HDU, what is left of companions that do not go whole."""
        self._tables: dict[int, tuple[bytes, bytes]] = {}
        """By number of the HDU, header and data of tables of which rows are left out."""

    def plan(self) -> CutoutPlan | None:
        """The plan, or None where the request meets no pixel.

        Raises UsageError, and what *find_box* raises.
        """
        request = self._request
        if request.form.masked and request.shape is None:
            raise UsageError("only what is outside of a shape on the sky can be masked")
        chosen = self._chosen()
        if request.shape is None and not request.limits_axes:
            return self._plan_of([(hdu, self._whole(hdu)) for hdu in chosen])
        if self._places.limits_world_axes and not self._dataset_meets():
            return None
        placed = [(hdu, self._place(hdu)) for hdu in chosen]
        boxes = [box for _, box in placed if isinstance(box, PixelBox)]
        if self._misses_an_axis(placed):
            return None
        if not boxes:
            self._refuse_if_no_sky(chosen)
            return None
        if self._prepared.has_companions:
            placed = [(hdu, self._companion(hdu, place, boxes[0])) for hdu, place in placed]
        if self._prepared.has_beams:
            self._cut_beams(placed)
        return self._plan_of(placed)

    # ------------------------------------------------------------ which HDUs

    def _chosen(self) -> list[PreparedHdu]:
        """The HDUs of the detail, or those named; the primary one always stands first."""
        hdus = self._prepared.hdus
        request = self._request
        if request.detail is None and not request.hdus:
            return list(hdus)
        wanted = [one.hdu for one in hdus]
        if request.detail is not None:
            wanted = of_detail(wanted, self._detail(request.detail))
        if request.hdus:
            # The primary HDU comes with every detail, so that it may be named.
            if hdus[0].hdu not in wanted:
                wanted = [hdus[0].hdu, *wanted]
            wanted = named(wanted, request.hdus)
        numbers = {one.layout.index for one in wanted}
        chosen = [one for one in hdus if one.hdu.layout.index in numbers]
        # An image in the primary HDU that is not wanted leaves its header alone behind.
        self._is_primary_bare = hdus[0].is_cuttable and hdus[0] not in chosen
        needed = {(table.name, table.version) for one in chosen for table in one.tables}
        return [
            one
            for one in hdus
            if one.hdu.layout.index == 0 or one in chosen or _table_key(one) in needed
        ]

    def _detail(self, name: str) -> Detail:
        for detail in self._dataset.details:
            if detail.name == name:
                return detail
        known = ", ".join(detail.name for detail in self._dataset.details)
        raise UsageError(f"the dataset has the details {known}, got {name[:100]!r}")

    # ------------------------------------------------------------ which boxes

    def _dataset_meets(self) -> bool:
        """Whether the dataset as a whole can hold what an axis that it lacks was asked for."""
        obscore, request = self._dataset.obscore, self._request
        axes = [one.wcs for one in self._prepared.hdus if one.wcs is not None]
        meet = True
        if request.band is not None and not any(wcs.spectral for wcs in axes):
            meet &= _meets(request.band, obscore.em_min, obscore.em_max)
        if request.time is not None and not any(wcs.temporal for wcs in axes):
            meet &= _meets(request.time, obscore.t_min, obscore.t_max)
        if request.pol and not any(wcs.polarization for wcs in axes):
            states = obscore.pol_states or ""
            meet &= any(f"/{state}/" in states for state in request.pol)
        return meet

    def _misses_an_axis(self, placed: list[_Placed]) -> bool:
        """Whether all images with one of the axes asked for are missed: others are beside it."""
        request = self._request
        images = [(one.axes_wcs, box) for one, box in placed if one.is_cuttable]
        met = [
            [box for wcs, box in images if wcs is not None and getattr(wcs, axis) is not None]
            for axis, asked in (
                ("spectral", request.band), ("temporal", request.time),
                ("polarization", request.pol),
            )
            if asked
        ]  # fmt: skip
        return any(boxes and not any(boxes) for boxes in met)

    def _whole(self, hdu: PreparedHdu) -> Whole | None:
        """What becomes of an HDU where nothing limits any axis."""
        if hdu.is_of_the_file_only and not self._is_the_file:
            return None
        return None if self._is_primary_bare and hdu.hdu.layout.index == 0 else WHOLE

    def _place(self, hdu: PreparedHdu) -> PixelBox | Whole | None:
        if self._is_primary_bare and hdu.hdu.layout.index == 0:
            return None
        if hdu.is_of_parent_only:
            self._left_out.append(left_out_card(hdu))
            return None
        return self._places.of(hdu)

    def _companion(
        self, hdu: PreparedHdu, place: PixelBox | Whole | None, image: PixelBox
    ) -> PixelBox | Whole | None:
        """*place*, or the plane that belongs to where the first of the images is cut."""
        request = self._request
        is_placed = request.shape or request.stamp or request.section
        if not is_placed or place is not WHOLE or not is_companion(hdu):
            return place
        if rule_of(hdu) is None:
            return place
        plane = plane_for(hdu, image, self._find_table)
        if plane is None:
            return place
        self._image_offset = image.lower
        self._planes[hdu.hdu.layout.index] = plane
        if plane.table is not None:
            self._cut_places(hdu, plane, plane.table)
        return plane.box

    def _find_table(self, name: str) -> tuple[PreparedHdu, BinaryTable] | None:
        """The first table with that EXTNAME, whether or not it is in the answer."""
        for hdu in self._prepared.hdus:
            layout = hdu.hdu.layout
            if layout.name.strip().upper() == name.upper() and not layout.is_image:
                rows = self._rows_of(hdu)
                return None if rows is None else (hdu, rows)
        return None

    def _rows_of(self, hdu: PreparedHdu) -> BinaryTable | None:
        """The rows of a table; raises NotQuickError where they would have to be waited for."""
        if not self._may_block and not hdu.has_table:
            raise NotQuickError
        return hdu.table

    def _cut_places(self, cube: PreparedHdu, plane: Plane, table: PreparedHdu) -> None:
        """Leave one row in a table of places, that of *plane*, and move it with the image."""
        rule, rows = rule_of(cube), table.table
        assert rule is not None
        assert rows is not None
        changed = {}
        for name, offset in zip((rule.x, rule.y), self._image_offset, strict=False):
            values = rows.numbers(name)
            assert values is not None
            changed[name] = values[plane.row : plane.row + 1] - offset
        if rule.plane:
            changed[rule.plane] = np.array([float(rule.first)])
        self._cut_table(table, rows, np.array([plane.row]), changed, {})

    def _cut_beams(self, placed: list[_Placed]) -> None:
        """Leave those rows in the table of beams whose planes are left."""
        image = next(
            ((one, box) for one, box in placed if isinstance(box, PixelBox) and has_beams(one)),
            None,
        )
        if image is None or not lacks_planes(*image):
            return
        for one, box in placed:
            if box is not WHOLE or not is_beams(one):
                continue
            table = self._rows_of(one)
            found = None if table is None else rows_of_planes(table, *image)
            if table is not None and found is not None:
                self._cut_table(one, table, *found)

    def _cut_table(
        self,
        one: PreparedHdu,
        table: BinaryTable,
        rows: NDArray[np.intp],
        changed: Mapping[str, NDArray[np.float64]],
        cards: Mapping[str, int],
    ) -> None:
        """Plan for a table of these *rows*, with what is *changed* in them."""
        told = commentary("HISTORY", f"  {one.called}: {len(rows)} of {table.count} rows")
        made, data = table.cut(
            rows, changed=changed, cards=cards, provenance=self._prepared.origin_cards + told
        )
        self._tables[one.hdu.layout.index] = render_cards(made), data

    def _refuse_if_no_sky(self, chosen: list[PreparedHdu]) -> None:
        """Nothing to cut is an error where it is the file, not the shape, that is to blame."""
        images = [one for one in chosen if one.is_cuttable]
        if self._is_primary_bare:
            images = [one for one in images if one.hdu.layout.index]
        if not images:
            raise UsageError("there is no image to cut in what was asked for")
        on_sky = self._request.shape is not None or self._request.stamp is not None
        if not on_sky or any(one.leader is not None for one in images):
            return
        problems = [f"HDU {one.hdu.layout.index}: {one.wcs_problem}" for one in images]
        broken = "; ".join(text for text in problems if not text.endswith(": "))
        raise UsageError(
            "the dataset cannot be cut by sky position, only with PIXELS: "
            + (broken or "no image of it has celestial coordinates")
        )

    # ------------------------------------------------------------ which bytes

    def _plan_of(self, placed: list[_Placed]) -> CutoutPlan:
        kept = [(one, box) for one, box in placed if box is not None or one.hdu.layout.index == 0]
        tables = MovedTables(kept)
        extensions = len(kept) + len(tables.copies) - 1
        numbers = tuple([one.hdu.layout.index for one, _ in kept])
        planned: list[HduPlan] = []
        sections: list[str] = []
        for one, box in kept:
            if isinstance(box, PixelBox):
                sections.append(box.section)
                planned.append(self._cut(one, box, tables, extensions))
            else:
                sections.append("whole" if box is WHOLE else "header")
                planned.append(self._uncut(one, box, tables, numbers, extensions))
        planned.extend(tables.copies)
        form = self._request.form
        if form is not PLAIN:
            self._complete(kept, planned)
        media_type, suffix = FITS_MEDIA_TYPE, "fits"
        size = made_size = sum(
            len(one.header) + one.data_size + padding_size(one.data_size) for one in planned
        )
        if form is not PLAIN and form.header_only:
            size = len(header_text(one.header for one in planned))
            media_type, suffix = TEXT, "txt"
            if form.packing is not Packing.NONE:
                raise UsageError("headers are given as text, which is not compressed")
        else:
            suffix += _SUFFIXES[form.packing]
        return CutoutPlan(
            self._dataset,
            tuple(planned),
            size,
            filename_of(self._prepared.stem, sections, self._name_parts(), suffix),
            GZIP_MEDIA_TYPE if form.packing is Packing.GZIP else media_type,
            etag_of(
                self._prepared.etag_base,
                " ".join(map(str, numbers)),
                sections,
                self._form_text(),
            ),
            form,
            all(one.is_copied for one in planned) and (form is PLAIN or not form.is_computed),
            made_size if form.checksums else 0,
        )

    def _cut(
        self, one: PreparedHdu, box: PixelBox, tables: MovedTables, extensions: int
    ) -> HduPlan:
        """An image of which *box* is given."""
        layout = one.hdu.layout
        form = self._request.form
        filling, held, notes = None, box, self._provenance(one, box.section)
        if self._places.limits_world_axes:
            notes += self._uncertainties(one)
        if counts_in_the_parents_pixels(one.image_header):
            notes += (commentary("HISTORY", _NOT_KEPT),)
        if form is not PLAIN:
            if isinstance(box, Frame):
                trimmed = box.trimmed(layout.naxis)
                assert trimmed is not None
                held = trimmed
            filling, notes = self._filled(one, box, held, notes)
        cutter = one.header_cutter(extensions, tables.versions(one))
        if isinstance(box, SteppedBox):
            header = stepped_header(cutter.cut(box.whole_box, notes), box.axis, box.step)
        else:
            header = cutter.cut(box, notes)
        if (plane := self._planes.get(layout.index)) is not None:
            header = header_of_plane(header, one, plane, self._image_offset)
        size = box.pixel_count * abs(layout.bitpix) // 8
        return HduPlan(one.hdu, header, held, size, filling)

    def _complete(self, kept: list[_Placed], planned: list[HduPlan]) -> None:
        """Put into the headers what can only be said once all HDUs are planned."""
        form = self._request.form
        for number, (one, box) in enumerate(kept):
            if not isinstance(box, PixelBox):
                continue
            header = planned[number].header
            if form.proof:
                referred = one.referred_hdus
                tables = b"".join(
                    other.header + referred[key][1]
                    for other in planned
                    if other.box is None
                    and (key := (other.hdu.layout.name, other.hdu.layout.version)) in referred
                )
                step = None
                if isinstance(box, SteppedBox):
                    step = tuple(box.step if at == box.axis else 1 for at in range(len(box.lower)))
                proof = one.prover.prove(
                    header, box.lower, step=step, tables=tables, most_mas=self._most_mas
                )
                header = with_proof_cards(header, proof)
            planned[number] = planned[number]._replace(header=header)
        if form.checksums:
            for number, plan in enumerate(planned):
                # Sums of what is copied whole are kept, true or not, as they are.
                if plan.box is not None or not has_sums(plan.header):
                    summed = with_checksum_cards(plan.header)
                    planned[number] = plan._replace(header=summed)

    def _filled(
        self, one: PreparedHdu, box: PixelBox, held: PixelBox, notes: tuple[bytes, ...]
    ) -> tuple[Filling | None, tuple[bytes, ...]]:
        """What becomes of the pixels of *box* that the image has not, or that are masked."""
        form, shape = self._request.form, self._request.shape
        if form.edge is Edge.PAD:
            coverage = held.pixel_count / box.pixel_count
            notes = (card(COVERAGE, coverage, "part of the pixels that the parent has"), *notes)
        mask = None
        if form.masked and shape is not None and one.leader is not None:
            mask = Mask(shape, one.leader.sky_planes, one.sky_axes)
        if held is box and mask is None:
            return None, notes
        value, text = self._fill_value(one)
        what = ["beyond the edge"] * (held is not box) + ["outside of the shape"] * bool(mask)
        said = commentary("HISTORY", f"  with {text} for the pixels {' and '.join(what)}")
        return Filling(box, value, mask), (*notes, said)

    def _fill_value(self, one: PreparedHdu) -> tuple[bytes, str]:
        """The stored value that fills, and how it is told."""
        layout, blank, header = one.hdu.layout, one.blank, one.image_header
        fill = self._request.form.fill
        offset = sign_offset(layout.bitpix, header.number("BSCALE"), header.number("BZERO"))
        told = "the stored value " if offset is None else ""
        for value in fill:
            meant = None if value is BLANK else value
            stored = stored_value(meant, bitpix=layout.bitpix, blank=blank, offset=offset or 0)
            if stored is not None:
                if value is BLANK:
                    return stored, "NaN" if layout.bitpix < 0 else f"BLANK ({blank})"
                as_stored = f" (stored as {int(value) - offset})" if offset else ""
                return stored, f"{told}{format_fill(value)}{as_stored}"
        kind = "floats" if layout.bitpix < 0 else "integers"
        if offset:
            kind = "signed bytes" if layout.bitpix == 8 else f"unsigned {kind}"
        said = ", ".join(map(format_fill, fill))
        hint = "" if blank is not None or layout.bitpix < 0 else " and no BLANK"
        raise UsageError(
            f"{one.called} has pixels to be filled, {abs(layout.bitpix)}-bit {kind}{hint}, "
            f"whose {'stored ' if offset is None else ''}values cannot be {said[:100]}: FILL takes "
            "one that they can be, and may be given several times, each HDU taking the first "
            "that fits"
        )

    def _uncut(
        self,
        one: PreparedHdu,
        box: Whole | None,
        tables: MovedTables,
        numbers: tuple[int, ...],
        extensions: int,
    ) -> HduPlan:
        """An HDU that is copied whole, or a primary image that leaves its header alone behind."""
        layout = one.hdu.layout
        if layout.index in self._tables:
            header, data = self._tables[layout.index]
            return HduPlan(one.hdu, header, None, len(data), made=data)
        data_size = layout.data_size
        if box is None:
            header = empty_primary(
                layout.header,
                extensions=extensions,
                provenance=(self._prepared.origin_cards,),
            )
            data_size = 0
        elif layout.index == 0 and not self._is_the_file:
            header = self._prepared.kept_primary(numbers, extensions)
        else:
            header = tables.moved_header(one) or layout.header.render()
        return HduPlan(one.hdu, header, None, data_size)

    @property
    def _is_the_file(self) -> bool:
        """Whether the answer would be the file as it is but for its form."""
        request = self._request
        is_selected = request.shape is not None or request.limits_axes or request.hdus
        return not (is_selected or request.detail is not None or request.form.checksums)

    def _form_text(self) -> str:
        """What else than HDUs and boxes decides about the bytes of the answer."""
        form, shape = self._request.form, self._request.shape
        text = b"".join(self._left_out).decode("ascii")
        if form is not PLAIN:
            # Inside the box the shape decides where pixels are masked.
            text += f"{form}|{shape}" if form.masked else str(form)
        if self._places.limits_world_axes:
            notes = map(self._uncertainties, self._prepared.hdus)
            text += b"".join(chain.from_iterable(notes)).decode("ascii")
        return text + "|file" if self._is_the_file else text

    def _provenance(self, one: PreparedHdu, section: str) -> tuple[bytes, ...]:
        """HISTORY cards: they add up where a cutout is cut again, as keywords could not."""
        where = commentary("HISTORY", f"{one.described} {section}")
        return (self._prepared.origin_cards, where, *self._left_out)

    def _name_parts(self) -> list[str]:
        """What tells the answer's name from those of other answers with the same box."""
        request = self._request
        parts = [request.detail] if request.detail else []
        parts += [f"HDU{one}" if one.isdigit() else one.replace(",", "-")
                  for one in dict.fromkeys(map(format_hdu_name, request.hdus))]  # fmt: skip
        return parts + ["masked"] * request.form.masked

    def _uncertainties(self, one: PreparedHdu) -> tuple[bytes, ...]:
        """HISTORY cards: what was taken for granted of the axes that were limited."""
        wcs, request = one.axes_wcs, self._request
        if wcs is None:
            return ()
        limited = (wcs.spectral, request.band), (wcs.temporal, request.time)
        notes = [axis.frame_note for axis, asked in limited if axis is not None and asked]
        return tuple(commentary("HISTORY", f"  {note}") for note in notes if note)


def left_out_card(hdu: PreparedHdu) -> bytes:
    """HISTORY: that *hdu* is not in the answer."""
    return commentary("HISTORY", f"  without {hdu.called}, which is true of the parent only")


def filename_of(
    stem: str, sections: list[str], parts: Sequence[str] = (), suffix: str = "fits"
) -> str:
    """The parent's name with *parts*, and the box of the first image.

    Where there is neither a part nor a box, it says that it is a cutout.
    """
    what = _safe_part(parts) if parts else ""
    for section in sections:
        if section[0] == "[":
            box = section[1:-1].replace(":", "-").replace(",", "_")
            what = f"{what}_{box}" if what else box
            break
    return f"{stem}_{what or 'cutout'}.{suffix}"


def _safe_part(parts: Sequence[str]) -> str:
    """*parts* as a part of a file name; what would be too long, and lossy, ends with a digest."""
    text = "_".join(parts)
    safe = _UNSAFE.sub("_", text)
    if safe == text and len(text) <= _LONGEST_PART:
        return text
    return f"{safe[:_LONGEST_PART]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def etag_of(etag_base: str, numbers: str, sections: list[str], form: str = "") -> str:
    """The entity tag, quotes included, from everything that decides about the bytes of the answer.

    *numbers* are those of the HDUs with blanks between them.
    """
    text = f"{etag_base}|{numbers}|{' '.join(sections)}|{form}"
    return f'"{hashlib.blake2b(text.encode(), digest_size=15).hexdigest()}"'


def _table_key(one: PreparedHdu) -> tuple[str, int]:
    return one.hdu.layout.name, one.hdu.layout.version


def _meets(asked: Interval, lower: float | None, upper: float | None) -> bool:
    """Whether limits meet what was asked for; unknown ones never do, as in a search."""
    return lower is not None and upper is not None and asked.meets(Interval(lower, upper))
