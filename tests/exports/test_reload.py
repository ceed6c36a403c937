"""Files read by the program they are made for, with nothing of ours but what wrote them."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import chita
from tests.families.language import FAMILIES
from tests.runtimes.networks import perceptron

GIVEN = torch.randn(3, 64)


def written(tmp_path, kind, suffix):
    network = perceptron()
    path = tmp_path / f"net{suffix}"
    chita.export(network, path, kind, inputs=GIVEN)
    with torch.no_grad():
        return network, path, network(GIVEN).numpy()


def test_safetensors_alone(tmp_path):
    _, path, expected = written(tmp_path, "dense", ".safetensors")
    own = perceptron(share=0)
    own.load_state_dict(load_file(path))
    with torch.no_grad():
        assert np.array_equal(own(GIVEN).numpy(), expected)


def test_from_pretrained(tmp_path):
    family = FAMILIES["bert"]
    network, batch = family.build(), family.data()
    chita.prune(network, batch, sparsity=0.8, solver="magnitude", inplace=True)
    found = chita.export(network, tmp_path / "net", "hf", inputs=batch)
    again = type(network).from_pretrained(tmp_path / "net").eval()
    state = network.state_dict()
    assert all(torch.equal(state[name], t) for name, t in again.state_dict().items())
    assert {"config.json", "model.safetensors"} <= {file.name for file in found.files}
    assert found.difference == 0


def test_onnxruntime(tmp_path):
    import onnxruntime  # noqa: PLC0415 (what this test is of)

    _, path, expected = written(tmp_path, "onnx", ".onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["output"], {"input": GIVEN.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-5


def test_mnn(tmp_path):
    import MNN  # noqa: PLC0415
    import MNN.expr as expr  # noqa: PLC0415

    _, path, expected = written(tmp_path, "mnn", ".mnn")
    network = MNN.nn.load_module_from_file(str(path), ["input"], ["output"])
    given = expr.placeholder([3, 64], expr.NCHW)
    given.write(GIVEN.numpy())
    assert np.abs(np.array(network.forward([given])[0].read()) - expected).max() <= 1e-5


def test_openvino(tmp_path):
    import openvino  # noqa: PLC0415

    _, path, expected = written(tmp_path, "openvino", ".xml")
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(network(GIVEN.numpy())["output"] - expected).max() <= 1e-5


def test_pytorch_with_sparse_weights(tmp_path, monkeypatch):
    from chita.runtimes import csr  # noqa: PLC0415

    taken = lambda network, inputs: tuple(  # noqa: E731
        csr.Choice(layer=name, form="csr", seconds={}) for name in ("0", "2")
    )
    monkeypatch.setattr("chita.exports.torch_csr.choose", taken)
    _, path, expected = written(tmp_path, "torch-csr", ".pt")
    own = perceptron(share=0)
    own.load_state_dict(torch.load(path, weights_only=True), assign=True)
    assert {own[i].weight.layout for i in (0, 2)} == {torch.sparse_csr}
    with torch.no_grad():
        assert np.abs(own(GIVEN).numpy() - expected).max() <= 1e-6
        assert np.abs(chita.use_sparse(own)(GIVEN).numpy() - expected).max() <= 1e-6


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8_quantisation_of_an_onnx_file_keeps_zeros(per_channel, tmp_path):
    import onnx  # noqa: PLC0415
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    network, path, _ = written(tmp_path, "onnx", ".onnx")
    quantised = tmp_path / "int8.onnx"
    quantize_dynamic(path, quantised, weight_type=QuantType.QInt8, per_channel=per_channel)
    found = {
        entry.name: onnx.numpy_helper.to_array(entry)
        for entry in onnx.load(quantised).graph.initializer
    }
    for i in (0, 2, 4):
        weights = [a for n, a in found.items() if n.startswith(f"{i}.weight") and a.ndim == 2]
        (weight,) = [array for array in weights if array.dtype == np.int8]
        removed = network[i].weight.detach().numpy() == 0
        transposed = weight.shape != removed.shape or bool((weight[removed] != 0).any())
        removed = removed.T if transposed else removed
        points = [a for n, a in found.items() if n.startswith(f"{i}.weight") and "zero" in n]
        assert all((point == 0).all() for point in points)
        assert (weight[removed] == 0).all()
        assert (weight[~removed] != 0).mean() > 0.9
