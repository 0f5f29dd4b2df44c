"""DataLink 1.1, line by line, over the wire; a test is named after the line that it stands for."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from support.documents import (
    assert_valid_votable,
    descriptor,
    elements,
    input_params,
    parse_xml,
    stated,
    strings,
)
from support.tables import Row, fields_of, results_of, rows_of, status_of
from support.truth import parent_file

if TYPE_CHECKING:
    import httpx2
    from lxml.etree import _Element as Element
    from support.wire import Wire

LINKS = "datalink/links"
MEDIA_TYPE = "application/x-votable+xml;content=datalink"
STANDARD = "ivo://ivoa.net/std/DataLink#links-1.1"
SODA = "ivo://ivoa.net/std/SODA#sync-1.0"

VISIT = "ivo://demo.invalid/visits?2024110900036-94"
OTHER_VISIT = "ivo://demo.invalid/visits?2024110900035-94"
CUBE = "ivo://demo.invalid/radio?cuttlefish_hi.fits"
STACK = "ivo://demo.invalid/stacks?utopia.field.0042.stk.g.fits.fz"
INFRARED = "ivo://demo.invalid/infrared?aJ_asky_991104s0420117.fits.gz"
DRIZZLED = "ivo://demo.invalid/drizzled?lc4201010_drz.fits"
TEMPLATE = "ivo://demo.invalid/templates?template_r.fits"
UNKNOWN = "ivo://demo.invalid/visits?nothing"

CORE_TERMS = {
    "#this", "#progenitor", "#derivation", "#auxiliary", "#weight", "#error", "#noise",
    "#calibration", "#bias", "#dark", "#flat", "#preview", "#preview-image", "#preview-plot",
    "#thumbnail", "#proc", "#cutout", "#documentation", "#detached-header", "#coderived",
    "#counterpart", "#package",
}  # fmt: skip


def links(answer: httpx2.Response) -> list[Row]:
    """The rows of an answer that is a links document."""
    assert answer.status_code == 200
    assert_valid_votable(answer.content)
    return rows_of(answer.content)


def fault(answer: httpx2.Response) -> str:
    """The message of an answer that refuses the request as a whole (DataLink 1.1 §3.4)."""
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/x-votable+xml"
    assert_valid_votable(answer.content)
    status, message = status_of(answer.content)
    assert status == "ERROR"
    assert message.startswith("UsageFault: ")
    return message


def services(document: bytes) -> list[Element]:
    """The descriptors of SODA, in order."""
    path = f"/v:VOTABLE/v:RESOURCE[v:PARAM[@name='standardID' and @value='{SODA}']]"
    return elements(parse_xml(document), path)


@pytest.fixture(scope="module", name="everything")
def _everything(wire: Wire) -> list[str]:
    """Every identifier of the service."""
    return [row["obs_publisher_did"] for row in rows_of(wire.get("sia/query").content)]


# ------------------------------------------------------------------ requests


def test_dl_001_get_post_and_multipart_are_the_same(wire: Wire) -> None:
    """As DALI-sync says."""
    for identifiers in ([VISIT], [VISIT, CUBE, UNKNOWN]):
        answers = [wire.get(LINKS, ID=identifiers), wire.post(LINKS, ID=identifiers),
                   wire.post_parts(LINKS, id=identifiers)]  # fmt: skip
        assert len({answer.content for answer in answers}) == 1
        assert len(links(answers[0])) > len(identifiers)


def test_dl_002_dl_015_rows_for_every_id_together(wire: Wire, everything: list[str]) -> None:
    """At least one row for each ID, the rows of one side by side, whatever the order asked."""
    identifiers = [*everything[::-1], UNKNOWN]
    rows = links(wire.post(LINKS, ID=identifiers))
    assert [name for name, _ in groupby(row["ID"] for row in rows)] == identifiers


def test_dl_002_the_id_is_echoed_as_it_came(wire: Wire) -> None:
    """A client finds its rows by what it sent: letter case, strange letters and all."""
    for name in (VISIT.upper(), UNKNOWN, "a b&c<d>\"e'", "x?y=1&z=2#f", "ivo://ünï.invalid/☃"):
        rows = links(wire.get(LINKS, ID=name))
        assert {row["ID"] for row in rows} == {name}


def test_dl_002_identical_ids_count_once(wire: Wire) -> None:
    """One cutout row per dataset, however often it was named."""
    assert links(wire.get(LINKS, ID=[VISIT, VISIT])) == links(wire.get(LINKS, ID=VISIT))


def test_dl_003_no_id_is_an_empty_table(wire: Wire) -> None:
    """200, all columns, the self-description, no rows; blank IDs are none."""
    for answer in (wire.get(LINKS), wire.post(LINKS), wire.get(LINKS, ID=["", " "])):
        assert links(answer) == []
        assert len(fields_of(answer.content)) >= 12
        assert status_of(answer.content)[0] == "OK"
        this = descriptor(answer.content, "@utype='adhoc:this'")
        assert stated(this, "accessURL") == [wire.base + LINKS]
        assert services(answer.content) == []


def test_dl_004_too_many_ids_overflow_between_two(wire: Wire) -> None:
    """A thousand are answered (`links_limit`), each with all its rows, and the rest is said."""
    whole = links(wire.get(LINKS, ID=VISIT))
    unknown = [f"ivo://demo.invalid/visits?none-{number}" for number in range(1500)]
    answer = wire.post(LINKS, ID=[*unknown[:999], VISIT, *unknown[999:]])
    rows = links(answer)
    assert status_of(answer.content)[0] == "OVERFLOW"
    assert list(dict.fromkeys(row["ID"] for row in rows)) == [*unknown[:999], VISIT]
    assert len([row for row in rows if row["ID"] == VISIT]) == len(whole)
    answer = wire.post(LINKS, ID=unknown[:1000])
    assert status_of(answer.content)[0] == "OK"


def test_dl_005_dl_013_response_formats(wire: Wire) -> None:
    """TABLEDATA under its own media type, or under the one that was asked for."""
    for asked, said in (
        (None, MEDIA_TYPE), ("votable", MEDIA_TYPE), ("application/x-votable+xml", MEDIA_TYPE),
        (MEDIA_TYPE, MEDIA_TYPE), ("application/x-votable+xml; content=datalink", MEDIA_TYPE),
        ("text/xml", "text/xml"),
    ):  # fmt: skip
        answer = wire.get(LINKS, ID=VISIT, **({"RESPONSEFORMAT": asked} if asked else {}))
        assert answer.headers["content-type"] == said
        assert elements(results_of(answer.content), ".//v:TABLEDATA/v:TR")
        assert len(links(answer)) > 4


@pytest.mark.parametrize("asked", ["json", "image/png", "nonsense", "é", "x" * 5000])
def test_dl_005_dl_024_other_formats_are_refused(wire: Wire, asked: str) -> None:
    """The request as a whole fails, in VOTable."""
    assert "RESPONSEFORMAT" in fault(wire.get(LINKS, ID=VISIT, RESPONSEFORMAT=asked))


def test_dl_006_the_capability_is_declared(wire: Wire) -> None:
    """By its standardID, as a ParamHTTP."""
    for path in ("datalink/capabilities", "capabilities"):
        root = parse_xml(wire.get(path).content)
        (interface,) = elements(root, f"capability[@standardID='{STANDARD}']/interface")
        assert interface.get("{http://www.w3.org/2001/XMLSchema-instance}type") == "vs:ParamHTTP"
        (url,) = elements(interface, "accessURL")
        assert (url.text, url.get("use")) == (wire.base + LINKS, "base")
    assert wire.get("datalink/availability").status_code == 200


# ------------------------------------------------------------------ the document

COLUMNS = {
    "ID": ("char", None, "meta.id;meta.main"),
    "access_url": ("char", None, "meta.ref.url"),
    "service_def": ("char", None, "meta.ref"),
    "error_message": ("char", None, "meta.code.error"),
    "description": ("char", None, "meta.note"),
    "semantics": ("char", None, "meta.code"),
    "content_type": ("char", None, "meta.code.mime"),
    "content_length": ("long", "byte", "phys.size;meta.file"),
    "content_qualifier": ("char", None, None),
    "local_semantics": ("char", None, "meta.id.assoc"),
    "link_auth": ("char", None, "meta.code"),
    "link_authorized": ("boolean", None, "meta.code"),
}


def test_dl_010_to_012_the_shape_of_the_document(wire: Wire) -> None:
    """One results RESOURCE; standardID and status are its children, before the table."""
    document = wire.get(LINKS, ID=VISIT).content
    children = list(results_of(document))
    names = [child.get("name") for child in children]
    table = [child.tag.rpartition("}")[2] for child in children].index("TABLE")
    assert names.index("QUERY_STATUS") < table
    assert names.index("standardID") < table
    assert children[names.index("standardID")].get("value") == STANDARD
    assert status_of(document)[0] == "OK"


def test_dl_014_the_columns(wire: Wire) -> None:
    """Type, unit and UCD of each; what is ours stands beside them."""
    fields = {str(field.get("name")): field for field in fields_of(wire.get(LINKS).content)}
    for name, (datatype, unit, ucd) in COLUMNS.items():
        field = fields[name]
        assert (field.get("datatype"), field.get("unit")) == (datatype, unit), name
        assert field.get("arraysize") == ("*" if datatype == "char" else None), name
        assert ucd is None or field.get("ucd") == ucd, name


def test_dl_014_to_022_every_row_of_the_archive(wire: Wire, everything: list[str]) -> None:
    """One of three ways to go on, a core term, a service that is in the document, and so on."""
    answer = wire.post(LINKS, ID=[*everything, UNKNOWN])
    named = {str(one.get("ID")) for one in services(answer.content)}
    assert "cutout-sync" in named
    for row in links(answer):
        ways = [row[name] for name in ("access_url", "service_def", "error_message")]
        assert len([way for way in ways if way]) == 1, row
        assert row["semantics"] in CORE_TERMS
        assert row["service_def"] in named | {""}
        assert row["content_qualifier"] in {"", "#image", "#cube"}
        assert row["link_auth"] in {"", "false", "optional", "true"}
        assert row["link_authorized"] in {"", "true", "false"}
        if row["ID"] == UNKNOWN:
            assert row["error_message"].startswith("NotFoundFault: ")
            assert row["semantics"] == "#this"
            continue
        assert row["description"]
        assert (row["link_auth"], row["link_authorized"]) == ("false", "true")
        if row["access_url"].startswith(wire.base + LINKS):
            assert row["content_type"] == MEDIA_TYPE
        else:
            assert row["content_type"]


def test_dl_016_020_one_synchronous_cutout_per_dataset(wire: Wire, everything: list[str]) -> None:
    """Firefly takes a #cutout only where it is the only one; #this likewise."""
    rows = links(wire.post(LINKS, ID=everything))
    for name, its_rows in groupby(rows, key=lambda row: row["ID"]):
        semantics = [row["semantics"] for row in its_rows]
        assert semantics.count("#cutout") == 1, name
        assert semantics.count("#this") == 1, name
        assert len([term for term in semantics if "cutout" in term]) == 1


def test_dl_017_018_an_id_that_fails_is_a_row(wire: Wire) -> None:
    """200; the others are not disturbed."""
    for name in (UNKNOWN, "nonsense", "../../etc/passwd", "file:///etc/passwd",
                 "http://127.0.0.1:1/", "\x00", "%00", "x" * 20_000, "' OR 1=1 --"):  # fmt: skip
        rows = links(wire.post(LINKS, ID=[VISIT, name, CUBE]))
        groups = [list(its_rows) for _, its_rows in groupby(rows, key=lambda row: row["ID"])]
        assert [len(group) > 1 for group in groups] == [True, False, True]
        (bad,) = groups[1]
        assert bad["error_message"].startswith("NotFoundFault: ")
        assert len(bad["error_message"]) < 1000
        assert (bad["access_url"], bad["service_def"]) == ("", "")


def test_dl_022_023_this_is_the_whole_file(wire: Wire, everything: list[str]) -> None:
    """Its URL gives as many bytes, of the type, that the row says; they are those of the file."""
    rows = links(wire.post(LINKS, ID=everything))
    whole = [row for row in rows if row["semantics"] == "#this"]
    assert len(whole) == len(everything)
    for row in whole:
        file = parent_file(wire.folder, row["ID"])
        assert int(row["content_length"]) == file.stat().st_size
        head = wire.ask("HEAD", row["access_url"])
        assert head.headers["content-length"] == row["content_length"]
        assert head.headers["content-type"] == row["content_type"]
    for row in whole[::6]:
        file = parent_file(wire.folder, row["ID"])
        assert wire.get(row["access_url"]).content == file.read_bytes()


def test_relations_of_the_survey(wire: Wire) -> None:
    """Visit, template, difference and coadd know one another, and their links can be followed."""
    kinds: dict[str, set[tuple[str, str]]] = {}
    for name in (VISIT, TEMPLATE, VISIT.replace("visits", "differences"),
                 "ivo://demo.invalid/coadds?coadd_r.fits"):  # fmt: skip
        kind = name.split("/")[3].partition("?")[0]
        kinds[kind] = set()
        for row in links(wire.get(LINKS, ID=name)):
            if row["access_url"].startswith(wire.base + LINKS):
                other = links(wire.get(row["access_url"]))[0]["ID"]
                assert other != name
                kinds[kind].add((row["semantics"], other.split("/")[3].partition("?")[0]))
    assert kinds == {
        "visits": {("#derivation", "differences"), ("#derivation", "templates"),
                   ("#derivation", "coadds")},
        "templates": {("#progenitor", "visits"), ("#derivation", "differences"),
                      ("#coderived", "coadds")},
        "differences": {("#progenitor", "visits"), ("#progenitor", "templates")},
        "coadds": {("#progenitor", "visits"), ("#coderived", "templates")},
    }  # fmt: skip


def test_auxiliary_planes_are_links_where_the_collection_says_so(wire: Wire) -> None:
    """The weight of a drizzled image, say: following the link gives that plane."""
    rows = [row for row in links(wire.get(LINKS, ID=DRIZZLED))
            if row["semantics"] in {"#weight", "#auxiliary", "#noise"}]  # fmt: skip
    assert rows
    for row in rows:
        answer = wire.get(row["access_url"])
        assert answer.headers["content-type"] == row["content_type"] == "application/fits"
        hdus = fits.HDUList.fromstring(answer.content)
        assert not {"SCI"} & {hdu.name for hdu in hdus}
        assert {"WHT", "CTX"} & {hdu.name for hdu in hdus}


# ------------------------------------------------------------------ descriptors


def test_dl_040_to_045_the_plain_descriptor_stands_first(wire: Wire, everything: list[str]) -> None:
    """For one dataset: a fixed ID, an URL without a query, PARAMs without values (CLIENTS §0)."""
    for name in everything[::4]:
        document = wire.get(LINKS, ID=name).content
        found = services(document)
        assert found[0].get("ID") == "cutout-sync"
        for one in found:
            assert (one.get("type"), one.get("utype")) == ("meta", "adhoc:service")
            assert one.get("name")
            assert elements(one, "v:DESCRIPTION")
            assert stated(one, "accessURL") == [wire.base + "soda/sync"]
            assert stated(one, "standardID") == [SODA]
            params = input_params(one)
            assert (params["ID"].get("value"), params["ID"].get("ref")) == (name, None)
            free = {
                key: param for key, param in params.items() if key not in {"ID", "CUTOUTDETAIL"}
            }
            assert {param.get("value") for param in free.values()} == {""}
            for param in params.values():
                assert elements(param, "v:DESCRIPTION")
                assert param.get("datatype") == "char" or param.get("arraysize")
            (example,) = stated(one, "exampleURL")
            assert elements(one, "v:PARAM[@name='exampleURL']/v:DESCRIPTION")
            cutout = wire.get(example)
            assert cutout.status_code == 200
            assert cutout.content[:9] == b"SIMPLE  ="


def test_dl_016_040_046_several_datasets_share_generic_ones(wire: Wire) -> None:
    """The ID refers to the column, and there are no limits; all stand at the top."""
    document = wire.get(LINKS, ID=[VISIT, CUBE]).content
    assert_valid_votable(document)
    found = services(document)
    assert [one.get("ID") for one in found] == [
        "cutout-sync", "cutout-sync-maskedimage", "cutout-sync-exposure",
    ]  # fmt: skip
    for one in found:
        identifier = input_params(one)["ID"]
        assert (identifier.get("ref"), identifier.get("value")) == ("ID", "")
        assert not strings(one, ".//v:MAX/@value | .//v:MIN/@value")


def test_the_details_of_a_visit(wire: Wire) -> None:
    """Rubin's three, as its notebooks know them."""
    document = wire.get(LINKS, ID=VISIT).content
    details = {
        str(one.get("ID")): input_params(one)["CUTOUTDETAIL"].get("value")
        for one in services(document)
    }
    assert details == {
        "cutout-sync": "Image",
        "cutout-sync-maskedimage": "MaskedImage",
        "cutout-sync-exposure": "Exposure",
    }
    by_service = {row["service_def"]: row["semantics"] for row in rows_of(document)}
    assert by_service["cutout-sync"] == "#cutout"
    assert by_service["cutout-sync-maskedimage"] == by_service["cutout-sync-exposure"] == "#proc"


SODA_PARAMETERS = {
    "ID": ("char", "*", None, None, "meta.id;meta.dataset"),
    "POS": ("char", "*", None, None, "pos.outline;obs"),
    "CIRCLE": ("double", "3", "circle", "deg", "pos.outline;obs"),
    "POLYGON": ("double", "*", "polygon", "deg", "pos.outline;obs"),
    "BAND": ("double", "2", "interval", "m", "em.wl;stat.interval"),
    "TIME": ("double", "2", "interval", "d", "time.interval;obs.exposure"),
    "POL": ("char", "*", None, None, "meta.code;phys.polarization"),
}


def test_soda_060_061_064_065_parameters_as_soda_defines_them(wire: Wire) -> None:
    """Clients know a parameter by name, UCD and unit; what cannot select anything is left out."""
    seen = set()
    for name in (VISIT, CUBE, STACK, INFRARED, DRIZZLED, [VISIT, CUBE]):
        for one in services(wire.get(LINKS, ID=name).content):
            params = input_params(one)
            for key in SODA_PARAMETERS.keys() & params.keys():
                attributes = ("datatype", "arraysize", "xtype", "unit", "ucd")
                assert tuple(map(params[key].get, attributes)) == SODA_PARAMETERS[key]
                seen.add(key)
            assert {"ID", "CIRCLE", "POLYGON", "POS"} <= params.keys()
            if name in (VISIT, STACK, INFRARED, DRIZZLED):
                assert not {"BAND", "POL", "TIME"} & params.keys()
    assert seen >= SODA_PARAMETERS.keys() - {"TIME"}
    cube = input_params(services(wire.get(LINKS, ID=CUBE).content)[0])
    assert {"BAND", "POL"} <= cube.keys()


def test_soda_062_063_limits_are_those_of_the_dataset(wire: Wire, everything: list[str]) -> None:
    """MAX of the shapes covers every corner; MIN and MAX of BAND; OPTIONs of POL."""
    rows = {row["obs_publisher_did"]: row for row in rows_of(wire.get("sia/query").content)}
    for name in everything[::3]:
        params = input_params(services(wire.get(LINKS, ID=name).content)[0])
        (circle,) = strings(params["CIRCLE"], "v:VALUES/v:MAX/@value")
        lon, lat, radius = map(float, circle.split())
        assert not strings(params["CIRCLE"], "v:VALUES/v:MIN/@value")
        numbers = [float(text) for text in rows[name]["s_region"].split()[2:]]
        corners = SkyCoord(numbers[::2], numbers[1::2], unit="deg")
        reach = corners.separation(SkyCoord(lon, lat, unit="deg")).deg.max()
        assert reach - 1e-7 < radius < reach * 1.05
        (polygon,) = strings(params["POLYGON"], "v:VALUES/v:MAX/@value")
        assert len(polygon.split()) >= 6
        # The limits are values that can be sent as they stand.
        for key, text in (("CIRCLE", circle), ("POLYGON", polygon), ("POS", "POLYGON " + polygon)):
            answer = wire.ask("HEAD", "soda/sync", ID=name, **{key: text})
            assert answer.status_code == 200, key


def test_soda_062_063_band_and_pol_of_the_cube(wire: Wire) -> None:
    """What the axes span, to the edges of the outermost channels."""
    params = input_params(services(wire.get(LINKS, ID=CUBE).content)[0])
    (low,) = strings(params["BAND"], "v:VALUES/v:MIN/@value")
    (high,) = strings(params["BAND"], "v:VALUES/v:MAX/@value")
    header = fits.getheader(parent_file(wire.folder, CUBE))
    edges = [header["CRVAL3"] + (at + 0.5 - header["CRPIX3"]) * header["CDELT3"]
             for at in (0, header["NAXIS3"])]  # fmt: skip
    want = sorted(299_792_458.0 / frequency for frequency in edges)
    assert float(low) == pytest.approx(want[0], rel=2e-4)
    assert float(high) == pytest.approx(want[1], rel=2e-4)
    assert strings(params["POL"], "v:VALUES/v:OPTION/@value") == ["I", "Q", "U", "V"]
    assert wire.ask("HEAD", "soda/sync", ID=CUBE, BAND=f"{low} {high}").status_code == 200


def test_dl_044_dl_047_the_self_description(wire: Wire) -> None:
    """adhoc:this names the standard and takes ID; its URL is that of the capability."""
    for asked in ({}, {"ID": VISIT}, {"ID": [VISIT, CUBE]}):
        document = wire.get(LINKS, **asked).content
        this = descriptor(document, "@utype='adhoc:this'")
        assert stated(this, "standardID") == [STANDARD]
        assert {"ID", "RESPONSEFORMAT"} <= input_params(this).keys()


def test_a_name_can_be_sent_percent_encoded_in_any_way(wire: Wire) -> None:
    """Reserved characters as they are or escaped: the same dataset."""
    for text in (quote(VISIT, safe=""), quote(VISIT), quote(VISIT, safe=":/?")):
        answer = wire.client.get(f"{wire.base}{LINKS}?ID={text}")
        assert {row["ID"] for row in links(answer)} == {VISIT}
