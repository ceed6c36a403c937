"""Seed one fault at a time into a copy of the tree and see that the tests notice.

Usage: python tools/seed_faults.py [word ...]   (only faults whose line contains a word)
A fault is a replacement in one file, and the tests that must fail with it. With CHITA_DATA set the
tests on real data take part. Exits with 1 when a fault goes unnoticed or no longer applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUADRATIC, CONFORM = "tests/problem/test_quadratic.py", "tests/conformance/test_solvers.py"
ROWS, GRADIENTS = "tests/problem/test_rows.py", "tests/collect/test_gradients.py"
NETWORK, CHECKPOINT = "tests/pruning/test_network.py", "tests/models/test_checkpoint.py"
CLI, FOLDER = "tests/cli/test_cli.py", "tests/export/test_run_folder.py"
OWN, CARE = "tests/cli/test_own.py", "tests/pruning/test_care.py"
PRICES, OTHER = "tests/problem/test_prices.py", "tests/problem/test_other_rows.py"
SEARCH = "tests/pruning/test_search.py"
REHEARSAL = "tests/pruning/test_rehearsal.py"
STAGED, IMPROVED = "tests/pruning/test_staged.py", "tests/collect/test_improved.py"
RULES, STORE = "tests/collect/test_rules.py", "tests/collect/test_store.py"
OFFICIAL, DATA = "tests/conformance/test_official.py", "tests/data/test_data.py"

# (file under chita/, text, its replacement, tests that must then fail)
FAULTS = [
    ("layout.py", "slice(e - c, e)", "slice(e - c, e - 1)", "tests/test_layout.py"),
    ("layout.py", ".detach().reshape(-1) for", ".detach().T.reshape(-1) for", "tests/test_layout.py"),
    ("space.py", "x.double() @ y.double()", "x @ y", "tests/test_space.py"),
    ("linalg/select.py", "numel() - k + 1", "numel() - k", "tests/linalg"),
    ("linalg/select.py", "ties[: k", "ties[-k", "tests/linalg"),
    ("linalg/select.py", "torch.isnan(values).any()", "False", "tests/linalg"),
    ("linalg/cholesky.py", "int(status) == 0 and", "", "tests/linalg"),
    ("problem/quadratic.py", "0.5e-12 * (cost", "0.0 * (cost", QUADRATIC),
    ("linalg/spectral.py", "v = apply(v / norm)", "v = apply(v)", "tests/linalg"),
    ("problem/rows.py", "product += v[at]", "product = v[at]", ROWS),
    ("problem/rows.py", ".copy_(columns)", ".copy_(columns.half())", ROWS),
    ("problem/rows.py", ".square().sum(1)", ".abs().sum(1)", ROWS),
    ("problem/rows.py", "self.transpose_times(z)[support]", "self.transpose_times(z.abs())[support]", ROWS),
    ("problem/gradient_gram.py", "z / self._rows.n, support", "z, support", QUADRATIC),
    ("problem/gradient_gram.py", "b.double()) / self._rows.n", "b.double())", QUADRATIC),
    ("problem/gradient_gram.py", "add_(self._n * ridge)", "add_(ridge)", QUADRATIC),
    ("problem/gradient_gram.py", "support), self._rows.n * ridge * alpha", "support), ridge * alpha", QUADRATIC),
    ("problem/gradient_gram.py", "support) + rows.n * ridge * v", "support) + ridge * v", OTHER),
    ("problem/gradient_gram.py", "near = near.formed", "near = None", OTHER),
    ("problem/factored_rows.py", "gram[start:, strip] *=", "gram[start:, strip] +=", OTHER),
    ("linalg/conjugate_gradient.py", "(slope / before) * direction", "direction", "tests/linalg"),
    ("constraints/groups.py", "rank < least", "rank <= least", "tests/constraints"),
    ("constraints/groups.py", "(needed - used).clamp_min(0)", "needed", "tests/constraints"),
    ("constraints/blocks.py", "whole = (inside >= 0).all(1)", "whole = (inside >= 0).any(1)", "tests/constraints"),
    ("constraints/blocks.py", "square().sum(1)", "square().amax(1)", "tests/constraints"),
    ("constraints/n_of_m.py", "inputs = axes.matrices(index)", "inputs = index.reshape(1, len(index), -1)", "tests/constraints"),
    ("constraints/per_layer.py", "(int(ideal[i]) - ideal[i], i)", "(ideal[i] - int(ideal[i]), i)", "tests/constraints"),
    ("constraints/under_flops.py", "spare < 0", "spare < -9", "tests/constraints"),
    ("constraints/under_flops.py", "return self._traded(scores, ", "return (", "tests/constraints"),
    ("constraints/under_flops.py", "still = each <= spare", "break", "tests/constraints"),
    ("constraints/flops.py", "- operations.fixed\n        if limit", "\n        if limit", "tests/constraints"),
    ("constraints/knapsack.py", "if few and int((whole.worth(below) > dear).sum()) >= whole.k:", "if False:", "tests/constraints"),
    ("constraints/knapsack.py", "if not opened.fits(below)[0] and opened.fits(above)[0]:", "if True:", "tests/constraints"),
    ("constraints/knapsack.py", "high, cheap = middle, place", "high, cheap = high, place", "tests/constraints"),
    ("constraints/stored.py", "(allowed - fixed) //", "allowed //", "tests/pruning/test_allocation.py"),
    ("constraints/allocated.py", "count - part * (count - quota)", "quota", "tests/pruning/test_allocation.py"),
    ("constraints/allocated.py", "map(max, bound.least, self.quotas)", "bound.least", "tests/pruning/test_allocation.py"),
    ("pruning/allocation.py", "1 - slack", "1 + 1e-6", "tests/pruning/test_allocation.py"),
    ("pruning/allocation.py", "k * limit.each[t] for", "k for", "tests/pruning/test_allocation.py"),
    ("pruning/allocation.py", "(value - value.min()) *", "(value.max() - value) *", "tests/pruning/test_allocation.py"),
    ("pruning/search.py", "loss - dense", "loss", SEARCH),
    ("pruning/search.py", "weights = self._w_bar.clone()", "weights = self._w_bar", SEARCH),
    ("pruning/search.py", "write_weights(self._network, self._layout, w_bar)", "pass", SEARCH),
    ("pruning/search.py", "replace(pose, first_order=0.0)", "replace(pose, first_order=1.0)", SEARCH),
    ("collect/cost.py", "get(owner, 0) + flops", "get(owner, 0)", "tests/collect/test_cost.py"),
    ("collect/cost.py", "-(-flops // (2 * count))", "-(-flops // count)", "tests/collect/test_cost.py"),
    ("problem/gradient_gram.py", "if ridge not in self._kept:", "if not self._kept:", QUADRATIC),
    ("problem/gradient_gram.py", "_add_row_gram(gram, self._rows, leaving, -1)", "pass", QUADRATIC),
    ("problem/quadratic.py", "0.5 * (fit - start)", "0.5 * fit", QUADRATIC),
    ("problem/quadratic.py", "+ 0.5 * self.ridge *", "+ self.ridge *", QUADRATIC),
    ("problem/quadratic.py", "pullback(residual) + self.ridge", "pullback(residual) - self.ridge", QUADRATIC),
    ("problem/quadratic.py", "self.offset + lost + 0.5 * moved", "self.offset + lost", QUADRATIC),
    ("problem/quadratic.py", "lost = 0.5 * self", "lost = 0 * self", QUADRATIC),
    ("problem/quadratic.py", "kept + step", "step", QUADRATIC),
    ("problem/quadratic.py", "0 <= self.ridge < ", "self.ridge < ", QUADRATIC),
    ("constraints/sparsity.py", "1 - Decimal(repr(float(sparsity)))", "Decimal(1 - sparsity)", "tests/constraints"),
    ("constraints/sparsity.py", "ROUND_FLOOR)", "'ROUND_CEILING')", "tests/constraints"),
    ("constraints/sparsity.py", "0 <= sparsity < 1", "0 <= sparsity <= 1", "tests/constraints"),
    ("constraints/keep_k.py", "self.k - len(kept)", "self.k", "tests/constraints"),
    ("solvers/__init__.py", '    "iht": IHT,\n', "", CONFORM),
    ("solvers/solver.py", "objective=problem.value(found.weights)", "objective=found.trace[-1] if found.trace else 0.0", CONFORM),
    ("solvers/solver.py", "if len(set(sizes.values())) > 1", "if False", CONFORM),
    ("solvers/magnitude.py", "problem.w_bar, 0", "problem.w_bar * 1.1, 0", CONFORM),
    ("solvers/bso.py", "select(problem.w_bar))", "select(1 / problem.w_bar))", CONFORM),
    ("solvers/bso.py", "masks.append(_stepped(problem, constraint, tries))", "pass", CONFORM),
    ("solvers/bso.py", "key=lambda trial: trial[:2])", "key=lambda trial: trial[1])", CONFORM),
    ("solvers/bso.py", "longest * 0.5**i", "7 * longest * 0.5**i", CONFORM),
    ("solvers/iht.py", "range(self.max_doublings + 1)", "range(1)", CONFORM),
    ("solvers/iht.py", "max(1.05 * (", "max(1.5 * (", CONFORM),
    ("solvers/iht.py", "problem.w_bar if start is None else start", "problem.w_bar", CONFORM),
    ("solvers/solver.py", "if not bool(torch.isfinite(found.weights).all())", "if False", CONFORM),
    ("collect/determinism.py", "return isinstance(module, _WITH_DROPOUT) and", "return False and", GRADIENTS),
    ("collect/gradients.py", "if not bool(torch.isfinite(value))", "if False", GRADIENTS),
    ("collect/separate.py", "id(tensor) not in taken", "True", GRADIENTS),
    ("cli/settings.py", '"row_indices": indices}', '"row_indices": indices and list(range(len(indices)))}', CLI),
    ("solvers/bso.py", "minimum.objective < best[1]", "minimum.objective > best[1]", CONFORM),
    ("solvers/chita.py", "minimum.objective >= best.objective", "False", CONFORM),
    ("solvers/chita.py", "best.weights - step * gradient", "best.weights - 0 * gradient", CONFORM),
    ("solvers/chita.py", "exchange.turn()", "pass", CONFORM),
    ("solvers/iht.py", "best is not None and best.objective < held.objective", "best is None", CONFORM),
    ("solvers/iht.py", "point.residual - step * image", "point.residual + step * image", CONFORM),
    ("solvers/iht.py", "residual + problem.curvature.image(difference, changed)", "residual", CONFORM),
    ("solvers/iht.py", "self.max_iterations + 1", "2", OFFICIAL),
    ("collect/store.py", "gradients.movedim(0, -1)", "gradients.abs().movedim(0, -1)", GRADIENTS),
    ("collect/gradients.py", "rows = len(examples) // row_size", "rows = len(examples); row_size = 1", GRADIENTS),
    ("collect/gradients.py", "    check_modes(model)\n", "", GRADIENTS),
    ("collect/gradients.py", "        check_deterministic(model, loss, sample)\n", "        pass\n", GRADIENTS),
    ("collect/gradients.py", "        if lost:", "    if False:", GRADIENTS),
    ("losses/outputs.py", "int(counted.max()) >= classes", "False", GRADIENTS),
    ("models/forward.py", "return culprits[0]", "return culprits[-1]", GRADIENTS),
    ("models/targets.py", "same = _identity(role)", "same = role.name", "tests/models/test_prunable.py"),
    ("models/roles.py", "Axes(output=1, input=0, groups", "Axes(output=0, input=1, groups", "tests/models/test_prunable.py"),
    ("models/mode.py", "module.training = training", "pass", NETWORK),
    ("pickles.py", "weights_only=not allow_pickle", "weights_only=False", CHECKPOINT),
    ("models/checkpoint.py", "    if faults:\n", "    if False:\n", CHECKPOINT),
    ("models/checkpoint.py", "elif target in mapped", "elif False", CHECKPOINT),
    ("models/paper/mlpnet.py", "((module|_layer)\\.)+", "((module)\\.)+", CHECKPOINT),
    ("data/vision.py", "_MEAN, _STD = 0.1307, 0.3081", "_MEAN, _STD = 0.13, 0.31", DATA),
    ("data/vision.py", "math.prod(shape) != len(content) - start", "False", DATA),
    ("data/pool.py", "torch.Generator().manual_seed(seed)", "torch.Generator().manual_seed(0)", DATA),
    ("data/batches.py", "    if found < count + held_out:", "    if False:", "tests/data"),
    ("data/digits.py", "RandomState(0)", "RandomState()", DATA),
    ("masks/storage.py", 'bitorder="little"', 'bitorder="big"', "tests/masks"),
    ("masks/storage.py", "or bits[count:].any()", "", "tests/masks"),
    ("export/run_folder.py", "    if not force:\n", "    if False:\n", FOLDER),
    ("export/run_folder.py", "content - {MODEL, MASKS, RECORD, LEVELS}", "False", FOLDER),
    ("export/run_folder.py", "        old.rename(path)\n", "", FOLDER),
    ("export/run_folder.py", "    finally:\n        shutil.rmtree(draft, ignore_errors=True)", "    finally:\n        pass", FOLDER),
    ("pruning/network.py", "network if inplace else _copied(network)", "network", NETWORK),
    ("pruning/pose.py", "self.value * float(", "float(", NETWORK),
    ("pruning/auto.py", "shift=scale * divisors", "shift=0 * divisors", NETWORK),
    ("models/prunable.py", "remove_duplicate=False", "remove_duplicate=True", "tests/models/test_prunable.py"),
    ("arguments.py", "number < at_least", "False", NETWORK),
    ("arguments.py", "math.isfinite(value)", "True", NETWORK),
    ("cli/app.py", "raise typer.Exit(2)", "raise typer.Exit(1)", CLI),
    ("cli/app.py", "raise typer.Exit(130)", "raise typer.Exit(0)", CLI),
    ("cli/report.py", '        "stages": len(record.stages),\n', "", CLI),
    ("cli/settings.py", "settings = {k: v for k, v in settings.items() if k not in _BUDGETS}", "pass", CLI),
    ("cli/settings.py", "getattr(self, name) for name in own", 'getattr(self, name) for name in own - {"seed"}', CLI),
    ("cli/settings.py", "getattr(self, name) for name in own", 'getattr(self, name) for name in own - {"first_order"}', CLI),
    ("cli/prune.py", "        check_target(settings.out, force=settings.force)\n", "        pass\n", CLI),
    ("cli/session.py", '"dropped": session.dropped', '"dropped": ()', CLI),
    ("models/mode.py", "    finally:\n", "    except ZeroDivisionError:\n        pass\n    else:\n", "tests/models/test_mode.py"),
    ("pickles.py", "except ImportError as error", "except ZeroDivisionError as error", CHECKPOINT),
    ("data/vision.py", "if len(content) > _LARGEST", "if False", DATA),
    ("masks/storage.py", "{key: metadata.get(key) for key in _FORMAT} != _FORMAT", "metadata.get('format') != 'chita-masks'", "tests/masks"),
    ("training/evaluate.py", "total + measure.total", "measure.total", "tests/training"),
    ("layout.py", ".movedim(2, 1)", "", "tests/test_layout.py"),
    ("nested.py", "len(sizes) == 1 else None", "sizes else None", "tests/test_nested.py tests/losses tests/data"),
    ("constraints/floors.py", "if self.allows(mask):", "if True:", "tests/constraints"),
    ("constraints/floors.py", "least - (there.stop - there.start)", "least", "tests/constraints"),
    ("constraints/floors.py", "k=self.k - sum(self.least)", "k=self.k", "tests/constraints"),
    ("constraints/fixed.py", "self.mask[index", "self.mask[~index", "tests/constraints"),
    ("models/roles.py", 'yield "weight", Axes(output=1, input=0)\n', 'yield "weight", Axes()\n', "tests/test_layout.py"),
    ("models/roles.py", "elif isinstance(module, nn.MultiheadAttention):", "elif False:", "tests/models tests/families"),
    ("models/targets.py", "max(found, key=lambda match: match[:2])", "found[0]", "tests/models"),
    ("models/targets.py", "if any(role.embedding for role in group)", "if False", "tests/models"),
    ("models/targets.py", "    _check_matched(", "    (lambda *_: None)(", "tests/models"),
    ("models/prunable.py", "    if bad:", "    if False:", NETWORK),
    ("models/wrappers.py", "model = model.module", "return model", NETWORK),
    ("models/wrappers.py", 'torch.compiler.set_stance("force_eager")', "torch.no_grad()", NETWORK),
    ("models/checkpoint.py", '_WRAPPERS.sub("", target)', "target", CHECKPOINT),
    ("models/checkpoint.py", "merged.pop(name) * merged.pop", "merged.pop(name) + merged.pop", CHECKPOINT),
    ("collect/separate.py", "            weight.requires_grad_(False)", "            pass", GRADIENTS),
    ("collect/separate.py", "gradient.to_dense() if gradient.is_sparse else gradient", "gradient", GRADIENTS),
    ("collect/gradients.py", "        if not any(bool(value > 0) for value in self._largest.values()):", "    if False:", GRADIENTS),
    ("collect/store.py", "needed > free", "False", GRADIENTS),
    ("collect/gradients.py", "(nested.count(part) or 1) % row_size", "False", "tests/collect/test_structures.py"),
    ("collect/cost.py", "activations += sum", "activations = sum", "tests/pruning/test_plan.py"),
    ("losses/outputs.py", "dtype=torch.float64) * 0.5**0.5", "dtype=torch.float64)", "tests/losses"),
    ("losses/outputs.py", "softmax(1).movedim(1, -1)", "softmax(1).transpose(0, -1)", "tests/losses"),
    ("losses/outputs.py", "counted = classes != _IGNORED", "counted = classes == classes", "tests/training tests/losses"),
    ("losses/outputs.py", "logsumexp(1).abs().max()) > 1e-2", "logsumexp(1).abs().max()) > 1e9", "tests/losses"),
    ("losses/outputs.py", "outputs.shape[1:] != targets.shape[1:]", "False", "tests/losses"),
    ("losses/whole.py", "total=float(loss) * samples", "total=float(loss)", "tests/training tests/losses"),
    ("data/batches.py", "if isinstance(data, Iterator) and iter(data) is data:", "if False:", "tests/data tests/training"),
    ("data/pool.py", "again is self._iterator or not any(True for _ in read(self._batches, again))", "False", "tests/data"),
    ("data/examples.py", "nested.joinable(last, batch)", "False", "tests/data"),
    ("data/archive.py", '".." in name.parts', "False", "tests/data"),
    ("data/archive.py", "unpacked > _RATIO * packed", "False", "tests/data"),
    ("data/archive.py", "len(content) > _LARGEST", "False", "tests/data"),
    ("data/images.py", "return (array - mean) / std", "return array - mean", "tests/data"),
    ("data/images.py", "(width - size) // 2", "width - size", "tests/data"),
    ("data/images.py", "image.width * image.height > _PIXELS", "False", "tests/data"),
    ("data/split.py", "order[count // _SHARE :]", "order", "tests/data"),
    ("data/tensors.py", "allow_pickle=False", "allow_pickle=True", "tests/data"),
    ("data/tensors.py", "unpacked > room // 2", "False", "tests/data"),
    ("pickles.py", "weights_only=not allow_pickle", "weights_only=False", "tests/data/test_tensors.py"),
    ("masks/sources.py", "found[weight] = mask != 0", "found[weight] = mask == 0", "tests/pruning/test_refit.py"),
    ("pruning/refit.py", "if first_order in (0, AUTO) and _nothing_to_do(network, fitted)", "if False", "tests/pruning/test_refit.py"),
    ("pruning/refit.py", "first, kept = known[name].role.name, ", "first, kept = name, ", "tests/pruning/test_refit.py"),
    ("pruning/samples.py", 'if sampling.labels == "data":', "if True:", NETWORK),
    ("pruning/result.py", "(~axes.by_output(part).any(1))", "(~axes.by_output(part).all(1))", "tests/constraints"),
    ("pruning/plan.py", "if not decision.pruned:", "if False:", "tests/pruning/test_plan.py"),
    ("pruning/pose.py", "self.value > 0 and ridge == 0", "False", NETWORK),
    ("solvers/solver.py", "whole_number(field.name, value", "(lambda *a, **k: 0)(field.name, value", NETWORK),
    ("imports.py", "sys.path.insert(0, here)", "pass", "tests/test_imports.py tests/cli/test_own.py"),
    ("image_format.py", "min(form.std) > 0", "True", "tests/test_image_format.py"),
    ("models/zoo.py", "unwrapped(build())", "build()", "tests/models"),
    ("cli/prune.py", "ignore=settings.ignore", "ignore=()", OWN),
    ("cli/prune.py", "targets=settings.targets", "targets=None", OWN),
    ("cli/settings.py", "getattr(self, name) for name in own", 'getattr(self, name) for name in own - {"labels"}', OWN),
    ("cli/settings.py", "for f in fields(Asked)}", 'for f in fields(Asked) if f.name != "min_keep"}', OWN),
    ("cli/prune.py", "loss=session.loss", "loss=None", OWN),
    ("cli/session.py", "load_dataset(name, settings.data_dir, form)", "load_dataset(name, settings.data_dir)", OWN),
    ("cli/settings.py", "Whole = Annotated[int, Strict()]", "Whole = int", "tests/cli/test_bad_input.py"),
    ("models/mode.py", "tensor.copy_(before)", "pass", CARE),
    ("models/prunable.py", "isfinite(values).all())]", "isfinite(values).any())]", CARE),
    ("models/targets.py", "if len(memory) > 1:", "if False:", CARE),
    ("models/targets.py", "or rule in role.around", "", "tests/models"),
    ("models/checkpoint.py", "known_name(name, expected, key_map)", "key_map(name)", CHECKPOINT),
    ("pruning/refit.py", "known_name(name, known) or name] = tensor", "name] = tensor", CARE),
    ("pruning/refit.py", "not torch.equal(fitted[first], kept)", "False", CARE),
    ("export/run_folder.py", "plain_name(n): _stored", "n: _stored", CARE),
    ("collect/ways.py", "by_loop(self._objective, self._weights, self._row_size, batch)", "pass", "tests/collect"),
    ("losses/outputs.py", "return torch.where(given == _IGNORED, given, drawn)", "return drawn", "tests/losses"),
    ("pruning/plan.py", "min(8192, p)", "8192", CARE),
    ("problem/bound.py", "- 0.5 * problem.ridge * masks", "- 0.4 * problem.ridge * masks", "tests/problem/test_bound.py"),
    ("problem/bound.py", "+ inner(u, problem.anchor)", "+ inner(u, u)", "tests/problem/test_bound.py"),
    ("problem/bound.py", "problem.ridge)[1]", "problem.ridge)[1] * 0", "tests/problem/test_bound.py"),
    ("solvers/cd.py", ".tril()", ".triu()", "tests/conformance/test_cd.py"),
    ("solvers/cd.py", "problem.ridge * (here", "0 * (here", "tests/conformance/test_cd.py"),
    ("problem/prices.py", "- 2 * both", "+ 2 * both", PRICES),
    ("problem/prices.py", "1 + diagonal[enter]", "1 - diagonal[enter]", PRICES),
    ("solvers/local_search.py", "torch.where(allowed, change, torch.inf)", "change", "tests/conformance"),
    ("constraints/floors.py", "spare[leaving].unsqueeze(1) |", "", "tests/constraints"),
    ("problem/gradient_gram.py", "half.T @ half) / (self._rows.n * ridge)", "half.T @ half) / self._rows.n", "tests/conformance/test_local_search.py"),
    ("cli/report.py", "record.pruned_metric if counted else None", "record.pruned_metric", OWN),
    ("problem/prices.py", "system -= self.cross", "system += self.cross", PRICES),
    ("problem/prices.py", "1 + side * column[position]", "1 - side * column[position]", PRICES),
    ("problem/prices.py", "alpha=-side", "alpha=side", PRICES),
    ("problem/prices.py", "-gradient[index] / problem.ridge", "gradient[index]", PRICES),
    ("solvers/local_search.py", "mask[prices.index[i]], mask[prices.index[j]] = False, True", "pass", "tests/conformance"),
    ("solvers/chita.py", "for _ in range(self.max_swap_rounds)", "for _ in range(0)", "tests/conformance"),
    ("solvers/active_set.py", "active = _bounded(active | entering)", "break", "tests/conformance/test_active_set.py"),
    ("solvers/active_set.py", "if found.objective < trace[-1]:", "if True:", "tests/conformance/test_active_set.py"),
    ("solvers/active_set.py", "mask | largest.select(", "largest.select(", "tests/conformance"),
    ("solvers/active_set.py", "first_step * 2**doubling", "first_step", "tests/conformance/test_active_set.py"),
    ("solvers/block_bso.py", "count * i // pieces", "self.block_size * i", "tests/conformance/test_block_bso.py"),
    ("solvers/block_bso.py", "trials[values.index(lowest)]", "trials[0]", "tests/conformance/test_block_bso.py"),
    ("problem/quadratic.py", "segments=segments_of(index, self.segments)", "segments=self.segments", "tests/conformance/test_block_bso.py"),
    ("problem/rows.py", "15 - math.frexp", "25 - math.frexp", ROWS),
    ("problem/factored_rows.py", "index % width", "index // width", OTHER),
    ("problem/factored_rows.py", "self._delta.square()", "self._delta", OTHER),
    ("problem/factored_rows.py", "self._delta.to(v.dtype)", "self._delta.abs().to(v.dtype)", OTHER),
    ("problem/joined_rows.py", "[order.argsort()]", "[order]", OTHER),
    ("problem/joined_rows.py", "index[at] - segment.start", "index[at]", OTHER),
    ("collect/rules/convolution.py", "map(mul, strides, apart)", "map(mul, strides, steps)", RULES),
    ("collect/rules/convolution.py", "map(mul, strides, steps)", "map(mul, strides, apart)", RULES),
    ("collect/rules/convolution.py", "divmod(apart * k, step)", "divmod(k, step)", RULES),
    ("collect/rules/embedding.py", "if layer.padding_idx is not None:", "if False:", RULES),
    ("collect/rules/norm.py", "(inputs - mean.view(shape))", "inputs", RULES),
    ("collect/rules/__init__.py", "type(module).forward is kind.forward", "True", RULES),
    ("collect/batched.py", "found + own", "own", RULES),
    ("collect/ways.py", "batched.channels_last = False", "raise", RULES),
    ("collect/ways.py", "losses_by_vmap(self._objective, self._row_size, probe)", "pass", GRADIENTS),
    ("collect/ways.py", "share * expected.abs().max()", "1e9", RULES),
    ("collect/batched.py", "if not self._missing[name]:", "if True:", RULES),
    ("collect/batched.py", "call.inputs = call.delta = None", "pass", "tests/collect"),
    ("collect/looking.py", "not index or any(map(_is_mask, nested.tensors(args[1])))", "not index", "tests/collect/test_looking.py"),
    ("collect/looking.py", "in _READ_OUTRIGHT", "in ()", "tests/collect/test_looking.py"),
    ("collect/affine.py", "delta * scale.to(delta.dtype)", "delta + 0 * scale.to(delta.dtype)", "tests/collect"),
    ("collect/affine.py", "if norm.running_mean is not None", "if True", "tests/collect/test_affine.py"),
    ("collect/store.py", "2.0 ** -self._powers[n]", "2.0 ** self._powers[n]", STORE),
    ("collect/store.py", "*= 2.0 ** (fitting", "*= 1.0 ** (fitting", STORE),
    ("pruning/auto.py", "loss < than - self._tolerance * abs(than)", "loss > than", STAGED),
    ("pruning/auto.py", "losses[used] = self._note", "self._note", REHEARSAL),
    ("pruning/auto.py", "problem.ridge * _COARSE", "problem.ridge / _COARSE", REHEARSAL),
    ("pruning/auto.py", "self._ridge if keep or self._pose.hold else None", "None", REHEARSAL),
    ("pruning/staged.py", "ridge=ridge, hold=True)", "hold=True)", REHEARSAL),
    ("pruning/staged.py", "self._network.load_state_dict(trial._network.state_dict())", "pass", REHEARSAL),
    ("pruning/auto.py", "self.shortened = True", "pass", REHEARSAL),
    ("pruning/auto.py", "if self._pose.hold:\n                    self", "if False:\n                    self", REHEARSAL),
    ("pruning/staged.py", "held_out=len(self._judge))", "held_out=len(self._judge) + 1)", REHEARSAL),
    ("pruning/staged.py", "Within(constraint=constraint, mask=staged.mask)", "constraint", STAGED),
    ("pruning/staged.py", "self._chooser.restore(staged.choice)", "pass", STAGED),
    ("pruning/staged.py", "_check_same(given, staged.records[stage])", "pass", STAGED),
    ("pruning/staged.py", "final - 1e-12", "final", STAGED),
    ("pruning/staged.py", "staged.batch_norm = self._recalibrated()", "pass", STAGED),
    ("pruning/unfinished.py", "if differing:", "if False:", STAGED),
    ("pruning/network.py", "tensor.copy_(kept)", "pass", STAGED),
    ("pruning/schedule.py", "if later < earlier or later >= 1:", "if False:", NETWORK),
    ("training/batch_norm.py", "norm.momentum = None  # a plain average", "pass", "tests/training"),
    ("training/batch_norm.py", "buffer.copy_(buffers[name])", "pass", "tests/training"),
    ("collect/improved.py", "clamp_min(8 * torch.finfo(gradient.dtype).eps)", "clamp_min(0)", IMPROVED),
    ("collect/batched.py", "divided(delta, errors) if improved else delta", "delta", IMPROVED),
    ("collect/ways.py", "found if divisors is None else divided(found, divisors)", "found", IMPROVED),
    ("constraints/within.py", "allowed[:, inside] = ", "_ = ", "tests/constraints"),
    ("data/pool.py", "self._order, self._at = self._order[again], 0", "self._at = 0", "tests/data"),
    ("data/pool.py", "torch.default_generator.set_state(self._state)", "pass", "tests/data/test_pool.py"),
    ("solvers/bso.py", "(problem.curvature.diagonal() + problem.ridge)", "problem.curvature.diagonal()", CONFORM),
    ("solvers/bso.py", "max_supports=min(self.max_supports, 2)", "max_supports=1", CONFORM),
    ("problem/gradient_gram.py", "not torch.equal(self._fresh.support, support)", "False", QUADRATIC),
    ("cli/sweep.py", "file.truncate(len(whole))", "pass", "tests/cli/test_sweep.py"),
    ("cli/grid.py", "    if twice:", "    if False:", "tests/cli/test_sweep.py"),
]  # fmt: skip


def noticed(fault: tuple[str, str, str, str], tree: Path) -> bool | None:
    """Return whether the tests fail with this fault in the copy; None where it does not apply."""
    name, old, new, tests = fault
    path = tree / "chita" / name
    source = path.read_text()
    if source.count(old) < 1:
        return None
    path.write_text(source.replace(old, new, 1))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        )
        return done.returncode not in {0, 5}
    finally:
        path.write_text(source)


def main() -> None:
    """Try every fault, or those that the arguments name."""
    words = sys.argv[1:]
    faults = [f for f in FAULTS if not words or any(word in " ".join(f) for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "*cache*"))
        for fault in faults:
            verdict = {True: "noticed", False: "MISSED", None: "DOES NOT APPLY"}[
                noticed(fault, tree)
            ]
            missed += verdict != "noticed"
            print(f"{verdict:8s} {fault[0]}: {fault[1]!r} -> {fault[2]!r}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} seeded faults were noticed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
