"""An epoch is what a plain loop does, under masks, and a function of its number alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from chita.data.examples import Examples
from chita.data.sampler import make_sampler
from chita.errors import InputError
from chita.losses import make_loss
from chita.progress import Silent
from chita.training.augment import crop_flip
from chita.training.channels_last import trains_in_channels_last
from chita.training.fine_tune import Diverged, FineTuner, optimizer_of
from chita.training.objective import Objective
from chita.training.recipe import Training


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))


def data(count=40):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, generator=generator)
    return x, (x @ torch.randn(6, 3, generator=generator)).argmax(1)


def tuner(model, training, pair=None, loss=None, seed=0, validation=0, teacher=None):
    examples = Examples(data() if pair is None else pair)
    return FineTuner(
        model,
        make_sampler(examples, seed=seed, validation=validation),
        training,
        make_loss(loss, examples.parts[0]),
        seed=seed,
        teacher=teacher,
        progress=Silent(),
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_epoch_is_that_of_a_plain_loop(optimizer):
    training = Training(epochs=2, events=1, batch=8, optimizer=optimizer, clip=0.5, warm_up=0.3)
    model, other = network(), network()
    own = tuner(model, training, validation=7)
    plain = optimizer_of(training, list(other.parameters()))
    sampler = make_sampler(Examples(data()), seed=0, validation=7)
    for number in range(2):
        losses = []
        batches = list(sampler.epoch(number, 8))
        assert [len(y) for _, y in batches] == [8] * 4
        for step, (x, y) in enumerate(batches):
            for group in plain.param_groups:
                group["lr"] = training.rate_at(number + step / 4)
            plain.zero_grad()
            loss = functional.cross_entropy(other(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(other.parameters(), 0.5)
            plain.step()
            losses.append(float(loss.detach()))
        assert own.epoch(number, 0.0) == pytest.approx(sum(losses) / 4)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_clipping_looks_at_the_weights_that_are_kept_alone():
    model = network()
    mask = torch.zeros(12, 6, dtype=torch.bool)
    mask[0] = True
    with torch.no_grad():  # nothing but the first row has a gradient worth a limit
        model[0].weight.mul_(mask)
    free, clipped = copy.deepcopy(model), copy.deepcopy(model)
    x, y = data()
    functional.cross_entropy(model(10 * x), y).backward()
    kept = [p.grad * mask if p.shape == mask.shape else p.grad for p in model.parameters()]
    norms = [sum(float(g.square().sum()) for g in grads) ** 0.5 for grads in (kept, _grads(model))]
    assert norms[0] < 0.95 * norms[1]
    for other, clip in ((free, None), (clipped, (norms[0] + norms[1]) / 2)):
        recipe = Training(epochs=1, events=1, batch=40, momentum=0, warm_up=0, clip=clip)
        own = tuner(other, recipe, (10 * x, y))
        own.hold({"0.weight": mask})
        own.epoch(0, 0.0)
    for mine, theirs in zip(free.parameters(), clipped.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def _grads(model):
    return [weight.grad for weight in model.parameters()]


def test_samples_come_once_in_an_order_of_each_epoch_and_none_that_is_held_out():
    x = torch.arange(30.0).view(-1, 1)
    sampler = make_sampler(Examples((x, torch.zeros(30, dtype=torch.long))), seed=4, validation=5)
    held = set(sampler.validation.batch[0].flatten().tolist())
    orders = []
    for number in (0, 1, 0):
        seen = torch.cat([batch[0] for batch in sampler.epoch(number, 5)]).flatten().tolist()
        assert sorted(seen + list(held)) == list(range(30))
        orders.append(seen)
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert sampler.batches(5) == 5
    assert sampler.batches(100) == 1
    assert len(list(sampler.epoch(0, 100))) == 1


def test_a_loader_gives_its_batches_but_those_held_out():
    rows = torch.utils.data.TensorDataset(torch.arange(20.0).view(-1, 1), torch.zeros(20))
    loader = torch.utils.data.DataLoader(rows, batch_size=6, shuffle=True)
    sampler = make_sampler(loader, seed=0, validation=4)
    held = sampler.validation.batch[0].flatten().tolist()
    for number in (0, 1):
        seen = [batch[0].flatten().tolist() for batch in sampler.epoch(number, 99)]
        assert sorted([*held, *(value for batch in seen for value in batch)]) == list(range(20))
    assert sampler.batches(99) == len(seen) == 4
    free = make_sampler(loader, seed=0)
    orders = [
        [batch[0].flatten().tolist() for batch in free.epoch(number, 99)] for number in (0, 0, 1)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_masks_hold_and_the_network_stays_in_its_mode():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
    model.eval()
    mask = torch.rand(8, 6) > 0.5
    own = tuner(model, Training(epochs=2, events=1, batch=8))
    own.hold({"0.weight": mask})
    mean = model[1].running_mean.clone()
    own.epoch(0, 0.0)
    assert not model[0].weight[~mask].any()
    assert not model.training
    assert not torch.equal(model[1].running_mean, mean)  # it was in train mode
    assert all(p.grad is None for p in model.parameters())
    other = torch.rand(8, 6) > 0.5
    own.hold({"0.weight": other})
    own.epoch(1, 0.0)
    assert not model[0].weight[~other].any()
    assert model[0].weight[other & ~mask].all()  # the first mask has let go


def test_an_epoch_depends_on_its_number_and_the_state_before_alone():
    def dropping():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    training = Training(epochs=3, events=1, batch=8, optimizer="adamw")
    whole = tuner(model := dropping(), training)
    for number in range(3):
        whole.epoch(number, 0.0)
    parts = tuner(other := dropping(), training)
    for number in range(3):
        parts.epoch(number, 0.0)
        state = {name: value.clone() for name, value in parts.tensors().items()}
        parts = tuner(other, training)
        parts.restore(state)
        torch.rand(number + 1)  # whatever others draw meanwhile
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    drawn = torch.get_rng_state()
    whole.epoch(0, 0.0)
    assert torch.equal(drawn, torch.get_rng_state())


@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_divergence_is_noticed(rate):
    own = tuner(network(), Training(epochs=1, events=1, batch=4, rate=rate, warm_up=0))
    with pytest.raises(Diverged, match=r"epoch 1, batch \d+: the loss is"):
        own.epoch(0, 0.0)


def test_label_smoothing_and_distillation_are_their_formulas():
    model, teacher = network(), network()
    with torch.no_grad():
        teacher[0].weight.mul_(2)
    x, y = data()
    loss = make_loss("cross_entropy", (x, y))
    smoothed = Objective(loss, Training(label_smoothing=0.1), None)
    expected = functional.cross_entropy(model(x), y, label_smoothing=0.1)
    torch.testing.assert_close(smoothed.mean(model, (x, y)), expected)
    both = Objective(loss, Training(distillation=0.3, temperature=2.0), teacher)
    ours, theirs = (net(x).div(2).softmax(1) for net in (model, teacher))
    divergence = (theirs * (theirs.log() - ours.log())).sum(1).mean()
    expected = 0.7 * functional.cross_entropy(model(x), y) + 0.3 * 4 * divergence
    torch.testing.assert_close(both.mean(model, (x, y)), expected)
    both.mean(model, (x, y)).backward()
    assert all(p.grad is None for p in teacher.parameters())
    target = torch.randn(40, 3)
    square = Objective(make_loss("mse", (x, target)), Training(distillation=0.5), teacher)
    expected = (model(x) - target).square().mean() / 2 + (model(x) - teacher(x)).square().mean() / 2
    torch.testing.assert_close(square.mean(model, (x, target)), expected)


def test_what_does_not_fit_the_loss_is_refused():
    custom = make_loss(lambda model, batch: model(batch[0]).mean(), data())
    with pytest.raises(InputError, match="label_smoothing"):
        Objective(make_loss("mse", data()), Training(label_smoothing=0.1), None)
    with pytest.raises(InputError, match="distillation"):
        Objective(custom, Training(distillation=0.1), network())
    frozen = network().requires_grad_(False)
    with pytest.raises(InputError, match="nothing to train"):
        tuner(frozen, Training())


def test_crops_and_flips_are_those_of_a_loop():
    images = torch.arange(6 * 2 * 16 * 8.0).view(6, 2, 16, 8) + 1
    torch.manual_seed(5)
    moved, targets = crop_flip((images, torch.arange(6)))
    torch.manual_seed(5)
    top, left = torch.randint(5, (6, 1)), torch.randint(3, (6, 1))
    mirrored = torch.rand(6, 1) < 0.5
    assert mirrored.any()
    assert not mirrored.all()
    assert torch.equal(targets, torch.arange(6))
    for i in range(6):
        padded = functional.pad(images[i], (1, 1, 2, 2))
        t, s = int(top[i]), int(left[i])
        expected = padded[:, t : t + 16, s : s + 8]
        assert torch.equal(moved[i], expected.flip(2) if mirrored[i] else expected)
    with pytest.raises(InputError, match="needs images"):
        crop_flip((torch.zeros(3, 4), torch.zeros(3)))


def test_convolutions_train_with_channels_last_and_come_back():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )

    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 36, 3)

        def forward(self, x):
            x = self.conv(x)
            return self.fc(x.view(len(x), -1))

    pair = torch.randn(24, 1, 6, 6), torch.arange(24) % 3
    loss = make_loss(None, pair)
    assert trains_in_channels_last(model, loss, (pair[0][:2], pair[1][:2]))
    assert not trains_in_channels_last(Viewing(), loss, (pair[0][:2], pair[1][:2]))
    assert not trains_in_channels_last(network(), make_loss(None, data()), data())
    plain = copy.deepcopy(model)
    training = Training(epochs=1, events=1, batch=8, augmentation="crop-flip")
    fast, slow = tuner(model, training, pair), tuner(plain, training, pair)
    slow._channels_last = False
    assert fast.epoch(0, 0.0) == pytest.approx(slow.epoch(0, 0.0), rel=1e-5)
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert mine.is_contiguous()
        torch.testing.assert_close(mine, theirs)
    viewing = Viewing()
    tuner(viewing, training, pair).epoch(0, 0.0)  # trained as it is


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_embeddings_of_sparse_gradients_are_trained_as_others(optimizer):
    """The first one is read by the function, which no attribute of a module tells."""

    class Words(nn.Module):
        def __init__(self, sparse):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.sparse = nn.Parameter(torch.randn(9, 4)), sparse
            self.embedding, self.head = nn.Embedding(9, 4, sparse=sparse), nn.Linear(4, 3)

        def forward(self, ids):
            first = functional.embedding(ids, self.first, sparse=self.sparse)
            return self.head((first + self.embedding(ids)).mean(1))

    pair = torch.arange(120).view(40, 3) % 9, torch.arange(40) % 3
    masks = {"embedding.weight": torch.arange(36).view(9, 4) % 3 > 0}
    training = Training(epochs=2, events=1, batch=8, optimizer=optimizer, clip=0.1)
    trained = []
    for sparse in (False, True):
        model = Words(sparse)
        own = tuner(model, training, pair)
        own.hold(masks)
        own.epoch(0, 0.0)
        assert not model.embedding.weight[~masks["embedding.weight"]].any()
        trained.append(model)
    for dense, sparse in zip(*(model.parameters() for model in trained), strict=True):
        assert torch.equal(dense, sparse)
