"""The decisions about one request: which HDUs, which boxes, which headers, how many bytes."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from soda_service.cutout.companions import is_companion
from soda_service.cutout.filling import coverage_card, filling_of
from soda_service.cutout.form import PLAIN, Edge, Packing
from soda_service.cutout.naming import FITS_MEDIA_TYPE, GZIP_MEDIA_TYPE, etag_of, filename_of
from soda_service.cutout.places import Places, quick_box
from soda_service.cutout.plan import CutoutPlan, HduPlan
from soda_service.cutout.planes import Planes
from soda_service.cutout.selection import format_hdu_name, named, of_detail
from soda_service.cutout.tables import WHOLE, MovedTables, Whole
from soda_service.errors import UsageError
from soda_service.fits.header import empty_primary
from soda_service.fits.newcards import commentary
from soda_service.fits.proof import MOST_MAS, with_proof_cards
from soda_service.fits.stepping import stepped_header
from soda_service.fits.wcs import counts_in_the_parents_pixels
from soda_service.geometry.frames import Frame
from soda_service.geometry.pixelbox import PixelBox, SteppedBox
from soda_service.geometry.shapes import Interval
from soda_service.render.fits import has_sums, padding_size, with_checksum_cards
from soda_service.render.headertext import MEDIA_TYPE as TEXT, header_text

if TYPE_CHECKING:
    from soda_service.catalog.dataset import Detail
    from soda_service.cutout.places import FindBox
    from soda_service.cutout.planes import Placed
    from soda_service.cutout.prepared import PreparedDataset
    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.cutout.request import CutoutRequest

_SUFFIXES: Final = {Packing.NONE: "", Packing.TILES: ".fz", Packing.GZIP: ".gz"}

_NOT_KEPT: Final = "  positions are not true here: TPU counts in pixels of the parent"


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
        self._told: list[bytes] = []
        """Cards that say which HDUs are not in the answer, being untrue of it, and which are
        there though nobody knows whether they belong there."""
        self._is_primary_bare = False
        self._is_cut = False
        """Whether there is any image in the answer of which only a part is given."""
        self._planes: Planes | None = None
        if prepared.has_companions or prepared.has_beams:
            self._planes = Planes(prepared, may_block=find_box is not quick_box)

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
        boxes = [box for one, box in placed if one.is_cuttable and isinstance(box, PixelBox)]
        if self._misses_an_axis(placed):
            return None
        if not boxes:
            self._refuse_if_no_sky(chosen)
            return None
        if self._planes is not None and (request.shape or request.stamp or request.section):
            placed = self._planes.cut_companions(placed, boxes[0])
        if self._planes is not None:
            self._planes.cut_beams(placed)
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

    def _misses_an_axis(self, placed: list[Placed]) -> bool:
        """Whether all images with one of the axes asked for are missed: others are beside it."""
        request = self._request
        images = [(one, box) for one, box in placed if one.is_cuttable]
        met = [
            [box for one, box in images if getattr(one, axis) is not None]
            for axis, asked in (
                ("spectral", request.band), ("temporal", request.time),
                ("polarization", request.pol),
            )
            if asked
        ]  # fmt: skip
        return any(boxes and not any(boxes) for boxes in met)

    def _whole(self, hdu: PreparedHdu) -> Whole | None:
        """What becomes of an HDU where nothing limits any axis."""
        if hdu.is_about_the_file and not self._is_the_file:
            return None
        return None if self._is_primary_bare and hdu.hdu.layout.index == 0 else WHOLE

    def _place(self, hdu: PreparedHdu) -> PixelBox | Whole | None:
        if self._is_primary_bare and hdu.hdu.layout.index == 0:
            return None
        if hdu.is_of_parent_only:
            self._told.append(hdu.left_out_card)
            return None
        place = self._places.of(hdu)
        if place is WHOLE and hdu.wcs_problem and hdu.is_cuttable and not is_companion(hdu):
            said = f"  with all of {hdu.called}, whose place is not known: {hdu.wcs_problem}"
            self._told.append(commentary("HISTORY", said))
        return place

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

    def _plan_of(self, placed: list[Placed]) -> CutoutPlan:
        kept = [(one, box) for one, box in placed if box is not None or one.hdu.layout.index == 0]
        tables = MovedTables(kept)
        extensions = len(kept) + len(tables.copies) - 1
        numbers = tuple([one.hdu.layout.index for one, _ in kept])
        self._is_cut = any(isinstance(box, PixelBox) for _, box in kept)
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
        form = self._request.form if not one.is_constant else PLAIN
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
            if form.edge is Edge.PAD:
                notes = (coverage_card(box, held), *notes)
            if (filled := filling_of(one, self._request, box, held)) is not None:
                filling, said = filled
                notes += (said,)
        cutter = one.header_cutter(extensions, tables.versions(one))
        if isinstance(box, SteppedBox):
            header = stepped_header(cutter.cut(box.whole_box, notes), box.axis, box.step)
        else:
            header = cutter.cut(box, notes)
        if self._planes is not None:
            header = self._planes.header_of(one, header)
        if one.is_constant:
            return HduPlan(one.hdu, header, None, 0)
        size = box.pixel_count * abs(layout.bitpix) // 8
        return HduPlan(one.hdu, header, held, size, filling)

    def _complete(self, kept: list[Placed], planned: list[HduPlan]) -> None:
        """Put into the headers what can only be said once all HDUs are planned."""
        form = self._request.form
        for number, (one, box) in enumerate(kept):
            if not isinstance(box, PixelBox) or one.is_constant:
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
        if self._planes is not None and (table := self._planes.table_of(one)) is not None:
            header, data = table
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
            header = self._prepared.kept_primary(
                numbers, extensions, images_are_whole=not self._is_cut
            )
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
        text = b"".join(self._told).decode("ascii")
        if form is not PLAIN:
            # Inside the box the shape decides where pixels are masked.
            text += f"{form}|{shape}" if form.masked else str(form)
        if self._places.limits_world_axes:
            notes = map(self._uncertainties, self._prepared.hdus)
            text += b"".join(chain.from_iterable(notes)).decode("ascii")
        return text + "|file" if self._is_the_file else text

    def _provenance(self, one: PreparedHdu, section: str) -> tuple[bytes, ...]:
        """HISTORY cards: they add up where a cutout is cut again, as keywords could not."""
        where = commentary("HISTORY", f"{one.history_prefix} {section}")
        return (self._prepared.origin_cards, where, *self._told)

    def _name_parts(self) -> list[str]:
        """What tells the answer's name from those of other answers with the same box."""
        request = self._request
        parts = [request.detail] if request.detail else []
        parts += [f"HDU{one}" if one.isdigit() else one.replace(",", "-")
                  for one in dict.fromkeys(map(format_hdu_name, request.hdus))]  # fmt: skip
        return parts + ["masked"] * request.form.masked

    def _uncertainties(self, one: PreparedHdu) -> tuple[bytes, ...]:
        """HISTORY cards: what was taken for granted of the axes that were limited."""
        request = self._request
        limited = (one.spectral, request.band), (one.temporal, request.time)
        notes = [axis.frame_note for axis, asked in limited if axis is not None and asked]
        return tuple(commentary("HISTORY", f"  {note}") for note in notes if note)


def _table_key(one: PreparedHdu) -> tuple[str, int]:
    return one.hdu.layout.name, one.hdu.layout.version


def _meets(asked: Interval, lower: float | None, upper: float | None) -> bool:
    """Whether limits meet what was asked for; unknown ones never do, as in a search."""
    return lower is not None and upper is not None and asked.meets(Interval(lower, upper))
