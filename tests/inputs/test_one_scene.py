from batchseg.inputs.one_scene import Finders, listed_scene, made_scene
from batchseg.system.file_info import FileInfo

NONE = Finders(lambda uri: [], lambda uri: None)


def info(uri: str, size: int = 5) -> FileInfo:
    return FileInfo(uri=uri, size=size, version="1")


def test_what_lies_beside_a_mask_and_metadata_count_once():
    beside = info("/a/x.aux.xml")
    metadata = info("/a/MTD.xml")
    finders = Finders(lambda uri: [beside], lambda uri: metadata)
    scene = made_scene(
        name="s", uri="/a/1", rasters=[info("/a/1"), info("/a/2")], mask=info("/a/3"), finders=finders
    )
    assert scene.beside == (beside, metadata)
    assert scene.metadata == ("/a/MTD.xml",) * 2
    assert scene.mask == info("/a/3")


def test_an_empty_file_is_a_problem_the_masks_too():
    for empty in ("/a/1", "/a/m"):
        files = {uri: info(uri, 0 if uri == empty else 5) for uri in ("/a/1", "/a/m")}
        scene = made_scene(name="s", uri="/a/1", rasters=[files["/a/1"]], mask=files["/a/m"], finders=NONE)
        assert scene.problem == f"the file {empty[3:]} is empty"


def test_a_list_may_name_a_mask_behind_the_bands(tmp_path):
    for name in ("red", "qa"):
        (tmp_path / name).write_bytes(b"pixels")
    wanted = [("red", f"{tmp_path}/red"), ("qa", f"{tmp_path}/qa")]
    scene = listed_scene(name="s", wanted=wanted, where="/l", absent="no {}", finders=NONE, mask=True)
    assert (len(scene.rasters), scene.mask.uri, scene.problem) == (1, f"{tmp_path}/qa", "")
    (tmp_path / "qa").unlink()
    scene = listed_scene(name="s", wanted=wanted, where="/l", absent="no {}", finders=NONE, mask=True)
    assert (scene.mask, scene.problem) == (None, f"its file for qa is missing: {tmp_path}/qa")
