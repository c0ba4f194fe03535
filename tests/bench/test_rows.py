from maskgan_jax.bench.rows import GPU_ROWS, ROWS


def test_rows_have_names_of_their_own():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) == 10
    assert {"256/pix2pix-1", "256/pix2pix-256", "256/inference-64"} < {row.name for row in GPU_ROWS}
    # Rows with the same name are the same.
    assert len({*ROWS, *GPU_ROWS}) == len({row.name for row in (*ROWS, *GPU_ROWS)})
    assert {"128/pix2pix", "256/proposed", "128/inference-1", "256/inference-8", "256/unmask-1"} < set(names)
