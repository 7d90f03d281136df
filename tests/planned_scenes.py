"""Plans over scenes whose headers a test makes up, and what they warn of."""

import dataclasses

import pyarrow as pa
import pyproj
import shapely
from factories import NOWHERE, make_config, make_product, make_recipe, make_scene, make_source

from batchseg.driver.plan import Estimate, Measured, Plan, Planner, make_plan
from batchseg.driver.scene_warnings import scene_warnings
from batchseg.driver.triage import Triage, triage
from batchseg.inputs.source import LISTING
from batchseg.job.recipe import Area
from batchseg.job.settings import AreaFile
from batchseg.output.ledger import Ledger


def listing_of(sources) -> pa.Table:
    """LISTING of scenes of one file each."""
    rows = [
        {name: getattr(source, name) for name in ("source_id", "uri", "tag", "size", "young", "problem")}
        | {"attributes": "", "more": ""}
        for source in sorted(sources, key=lambda source: source.source_id)
    ]
    return pa.Table.from_pylist(rows, schema=LISTING)


def triage_of(sources, ledger, recipe=None, **changes) -> Triage:
    """What a ledger says of some scenes, whose results are there."""
    digests = {"pixel": (recipe or make_recipe()).digest, "product": make_product().digest}
    return triage(listing_of(sources), ledger.table(), **{**digests, "begun": ledger.unfinished(), **changes})


def planner_of(ledger, **changes) -> Planner:
    arguments = {
        "recipe": make_recipe(),
        "ledger": ledger,
        "cpu_classes": ["avx2"],
        "workers": 1,
        "shard_tiles": None,
    }
    return Planner(**{**arguments, **changes})


def plan_of(headers, ledger, *, triaged=None, done=0, **changes) -> Plan:
    """A plan of all headers; `done`: scenes of earlier runs, beside those that the ledger knows."""
    planner = planner_of(ledger, **changes)
    triaged = triaged or triage_of([header.source for header in headers], ledger, planner.recipe)
    triaged = dataclasses.replace(triaged, done=triaged.done + done)
    rows = {name: row for row, name in enumerate(triaged.todo["source_id"].to_pylist())}
    return make_plan(triaged, [(rows[header.source.source_id], header) for header in headers], planner)


def estimate(plan, recipe, workers, asked) -> Estimate:
    """A plan in numbers; `asked`: bytes in flight."""
    measured = Measured(recipe)
    for job in plan.jobs:
        measured.add(job)
    return measured.estimate(plan.unread, planner_of(None, recipe=recipe, workers=workers), asked)


def scene(name, *, metres=1.0, crs="EPSG:32631", uri="", **changes):
    place = dataclasses.replace(
        NOWHERE,
        crs_wkt=pyproj.CRS(crs).to_wkt() if crs else None,
        transform=(metres, 0.0, 500_000.0, 0.0, -metres, 5e6) if crs else None,
    )
    source = make_source(name, **({"uri": uri} if uri else {}))
    return make_scene(source=source, **({"georeference": place} | changes))


def planned(tmp_path, *scenes, **recipe):
    made = make_recipe(**recipe)
    return plan_of(scenes, Ledger(str(tmp_path / "out")), recipe=made), made


def warned(tmp_path, *scenes, **recipe):
    return scene_warnings(*planned(tmp_path, *scenes, **recipe))


AREA_CONFIG = make_config(aoi=AreaFile(uri="/areas/county.geojson", layer=None))


def area(left, bottom, right, top, crs="OGC:CRS84") -> Area:
    return Area(wkb=shapely.to_wkb(shapely.box(left, bottom, right, top)), crs=crs, digest="0")


def placed(number: int):
    """Near Utrecht, 5.04 E 52.1 N, in UTM."""
    place = dataclasses.replace(
        NOWHERE,
        crs_wkt=pyproj.CRS("EPSG:32631").to_wkt(),
        transform=(10.0, 0.0, 640_000.0 + 1000 * number, 0.0, -10.0, 5_775_000.0),
    )
    return make_scene(100, 100, source=make_source(source_id=f"s{number}"), georeference=place)
