from factories import make_scene, make_source

from batchseg.driver.scene_words import count_of, examples


def test_few_scenes_are_named_and_many_counted():
    scenes = [make_scene(source=make_source(name)) for name in "abcd"]
    assert examples(scenes[:3]) == "a, b, c"
    assert examples(scenes) == "a, b, c, ..."
    assert [count_of(scenes[:n]) for n in (1, 2)] == ["1 scene", "2 scenes"]
