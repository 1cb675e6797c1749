"""sciml info: the installation, a run, a model, a data file."""

import jax

import sciml as library


def test_installation(sciml):
    outcome = sciml("info")
    assert outcome.status == 0
    facts = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert facts["jax"] == jax.__version__
    assert facts["sciml"] == library.__version__
    assert facts["cache"] == "off"
    assert jax.devices()[0].device_kind in facts["devices"]


def test_run_folder(sciml, trained):
    out = sciml("info", trained).out
    assert "step 4 of 4" in out
    assert "best validation" in out
    assert "SpatiotemporalFNO" in out
    assert "3 snapshots in, 4 out" in out


def test_saved_model(sciml, trained):
    library.save("model", library.load(trained / "checkpoint"))
    out = sciml("info", "model").out
    assert out.startswith("Model model")
    assert "hidden_channels" in out


def test_data_file(sciml, data_file):
    assert sciml("info", data_file).out == sciml("data", "info", data_file).out
