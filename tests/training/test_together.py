"""A pass keeps within memory: by what one sample takes, and by halves when memory runs out."""

import pytest
import torch
from torch import nn

import chita
from chita.data.examples import Examples
from chita.errors import InputError
from chita.losses import LOSSES
from chita.models.prunable import prunable_layout
from chita.progress import Silent
from chita.pruning.calibration import Calibration, Sampling
from chita.pruning.validation_loss import ValidationLoss
from chita.training import together
from chita.training.batch_norm import recalibrate
from chita.training.fidelity import embeddings
from chita.training.together import Together

CROSS = LOSSES["cross_entropy"]
FULL = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"


class Tight(nn.Module):
    """A network for which memory runs out above so many samples; it knows what it was given."""

    def __init__(self, most=10**9, error=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).eval()
        self.most, self.error, self.sizes = most, error or RuntimeError(FULL), []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return self.layers(x)


def samples(count):
    generator = torch.Generator().manual_seed(count)
    targets = torch.randint(2, (count,), generator=generator)
    return torch.randn(count, 3, generator=generator), targets


@pytest.mark.parametrize("error", [RuntimeError(FULL), MemoryError()], ids=["torch", "python"])
def test_half_as_many_run_when_memory_runs_out(error):
    x, y = samples(90)
    expected = chita.evaluate(Tight(), (x, y))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 60)
    for data in ((x, y), loader):
        model = Tight(20, error)
        assert chita.evaluate(model, data) == expected
        assert max(model.sizes[-4:]) <= 20


def test_what_can_be_halved_no_more_says_what_to_do():
    with pytest.raises(InputError, match=r"Tight.*can't allocate.*smaller samples or batches"):
        chita.evaluate(Tight(0), samples(9))
    whole = [{"x": torch.zeros(4, 3), "scale": torch.ones(2)}]

    def loss(model, batch):
        return model(batch["x"]).mean()

    with pytest.raises(InputError, match="cannot be told apart"):
        chita.evaluate(Tight(2), whole, loss=loss)


def test_other_errors_are_not_tried_again():
    model = Tight(5, RuntimeError("The size of tensor a must match"))
    with pytest.raises(InputError, match="size of tensor a"):
        chita.evaluate(model, samples(30))
    assert model.sizes == [1, 30]


class Wide(nn.Module):
    """Four values, 1,000, then 10: the second product has 4 · (1,000 + 10) bytes of a sample."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 1000), nn.Linear(1000, 10)

    def forward(self, x):
        return self.second(self.first(x))


def held(model, run):
    """Return the most bytes of inputs and outputs of a module, by hooks."""
    found = []

    def note(_module, given, out):
        found.append(given[0].nbytes + out.nbytes)

    with torch.no_grad():
        handles = [m.register_forward_hook(note) for m in model.children()]
        run()
    for handle in handles:
        handle.remove()
    return max(found)


def test_as_many_run_as_fit_by_the_bytes_of_one(monkeypatch):
    model, data = Wide(), (torch.randn(300, 4), torch.randint(10, (300,)))
    each = 2 * 4 * (1000 + 10)
    monkeypatch.setattr(together, "LIMIT", 40 * each)
    room = Together(model, lambda batch: CROSS.measure(model, batch), most=500)
    assert room.size(data) == 40
    peak = held(model, lambda: chita.evaluate(model, data))
    assert 0.5 * together.LIMIT * 0.9 < peak <= 0.5 * together.LIMIT


def test_logits_and_their_loss_are_counted(monkeypatch):
    words, tokens = 1000, 6
    model = nn.Embedding(words, words)  # each token gives the logits of all words
    data = torch.randint(words, (50, tokens)), torch.randint(words, (50, tokens))

    def loss(model, batch):
        logits = model(batch[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())

    each = 2 * 2 * 4 * words * tokens  # a logarithm of the softmax of the logits, twice
    room = Together(model, lambda batch: loss(model, batch), most=500)
    monkeypatch.setattr(together, "LIMIT", 7.5 * each)
    assert room.size(data) == 7


def test_a_longer_sample_is_measured_where_it_may_not_fit(monkeypatch):
    sizes = []

    def run(batch):
        sizes.append(tuple(batch.shape))
        return batch @ batch.mT

    room = Together(nn.Identity(), run, most=100)
    short, long = torch.randn(100, 4, 2), torch.randn(100, 400, 2)
    monkeypatch.setattr(together, "LIMIT", 10.5 * 2 * 4 * 400 * (400 + 2))
    assert room.size(short) == 100
    assert room.size(torch.randn(100, 8, 2)) == 100
    assert sizes == [(1, 4, 2)]
    assert room.size(long) == 10
    assert sizes[-1] == (1, 400, 2)
    assert room.size(short) == 100


def test_what_shows_the_bytes_of_a_sample_leaves_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(20, 3)
    state = torch.get_rng_state()
    Together(model, lambda batch: model(batch) + torch.rand(1)).size(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_network_that_takes_no_single_sample_runs_as_before():
    class Paired(nn.Module):
        def forward(self, x):
            assert len(x) > 1
            return x

    x, y = torch.eye(4), torch.arange(4)
    assert chita.evaluate(Paired(), (x, y)).value == 100


def test_statistics_and_validation_begin_again_with_equal_batches():
    class Late(Tight):  # its batch norm has seen the batch by then
        def forward(self, x):
            self.layers(x)
            return super().forward(x)

    x, y = samples(90)
    given = Examples((x, y))
    model, plain = Late(50), Tight()
    recalibrate(model, given, CROSS)
    assert model.sizes == [1, 90, 45, 45]
    variances = [plain.layers[0](part).var(0) for part in x.split(45)]
    torch.testing.assert_close(model.layers[1].running_var, torch.stack(variances).mean(0))
    layout = prunable_layout(plain)
    expected = ValidationLoss(plain, layout, given, CROSS, renewable=False).present()
    loss = ValidationLoss(Tight(50), layout, given, CROSS, renewable=False)
    assert loss.present() == pytest.approx(expected, rel=1e-6)


def test_validation_shows_one_sample_once():
    model, given = Tight(), Examples(samples(30))
    loss = ValidationLoss(model, prunable_layout(model), given, CROSS, renewable=True)
    assert loss.present() == loss.present()
    assert model.sizes == [1, 30, 30]


@pytest.mark.parametrize("count", [1, 2, 250, 251, 1000, 1003])
def test_equal_batches(count):
    room = Together(Tight(), lambda batch: None, most=250)
    sizes = [len(y) for _, y in room.equal(Examples(samples(count)))]
    assert sum(sizes) == count
    assert max(sizes) <= 250
    assert max(sizes) - min(sizes) <= len(sizes)


@pytest.mark.parametrize("count", range(2, 30))
def test_no_equal_batch_is_of_one_sample(count):
    room = Together(Tight(), lambda batch: None, most=2, least=2)
    sizes = [len(y) for _, y in room.equal(Examples(samples(count)))]
    assert sum(sizes) == count
    assert min(sizes) > 1


def test_embeddings_and_drawn_labels_are_cut(monkeypatch):
    class Embedding(Tight):
        def forward(self, input_ids):
            return type("Out", (), {"last_hidden_state": super().forward(input_ids)[:, None]})

    x, y = samples(64)
    found = embeddings(Embedding(20), {"input_ids": x})
    torch.testing.assert_close(found, embeddings(Embedding(), {"input_ids": x}))

    class Labelling(Tight):
        def forward(self, x):
            if not torch.is_grad_enabled():
                self.sizes.append(len(x))
            return self.layers(x)

    model, fisher = Labelling(), chita.Fisher(samples=60, labels="model")
    layout = prunable_layout(model)
    sampling = Sampling(fisher=fisher, validation=0)
    calibration = Calibration(sampling, (x, y), model, layout, validated=False)
    monkeypatch.setattr(together, "LIMIT", 25.5 * 2 * 4 * (5 + 5))  # outputs of a norm, and inputs
    calibration.collect(calibration.draw(), 0, Silent())
    assert model.sizes[2:6] == [1, 25, 25, 10]  # two look at the order of the samples
