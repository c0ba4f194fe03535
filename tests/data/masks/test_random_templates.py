import numpy as np
import pytest

from maskgan_jax.data.masks.random_templates import SHAPES, draw_template, write_templates
from maskgan_jax.data.masks.templates import load_templates
from maskgan_jax.errors import UserError


def test_a_folder_of_templates_can_be_read(tmp_path):
    write_templates(tmp_path / "new", 12, seed=3)
    templates = load_templates(str(tmp_path / "new"))
    assert len(templates) == 12 and {name.rpartition("_")[0] for name in templates} <= SHAPES.keys()
    for number, views in enumerate(templates.values()):
        drawn = draw_template(np.random.default_rng((3, number)))
        np.testing.assert_array_equal(views["front"].image, drawn.image)
        np.testing.assert_allclose(views["front"].points, drawn.points, atol=0.005)


def test_all_shapes_and_no_two_alike():
    templates = [draw_template(np.random.default_rng(number)) for number in range(40)]
    assert {template.name for template in templates} == SHAPES.keys()
    assert len({template.image.tobytes() for template in templates}) == 40
    for template in templates:
        opaque = template.image[..., 3]
        assert set(np.unique(opaque)) == {0, 255} and 0.1 < (opaque > 0).mean() < 0.7


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_templates(tmp_path / "file" / "templates", 1)
