"""Faults to seed in the Fisher by outputs, as in `faults.py`."""

from __future__ import annotations

BLOCKS, POSED = "tests/problem/test_block_gram.py", "tests/pruning/test_posed.py"
OTHER, REHEARSAL = "tests/problem/test_other_rows.py", "tests/pruning/test_rehearsal.py"
POSE = "tests/pruning/test_pose.py"

EARLIER = "tests/pruning/test_earlier.py"

FAULTS_OF_BLOCKS = [
    ("problem/stacked_rows.py", "return torch.cat([part.gather(index) for part in self._parts], 1)", "return torch.cat([part.gather(index) for part in self._parts[::-1]], 1)", OTHER),
    ("problem/stacked_rows.py", "torch.stack([part.squared_norms() for part in self._parts]).sum(0)", "self._parts[0].squared_norms()", OTHER),
    ("problem/stacked_rows.py", "z.split(self._counts, 1)", "[z[:, : c] for c in self._counts]", OTHER),
    ("pruning/earlier.py", "fresh.divisors * (rows.n / fresh.rows.n)", "fresh.divisors", EARLIER),
    ("pruning/earlier.py", "if s > stage - self._count}", "}", EARLIER),
    ("models/mode.py", "model.load_state_dict(state, strict=False)", "pass", EARLIER),
    ("models/mode.py", "        model.load_state_dict(now, strict=False)", "        pass", EARLIER),
    ("pruning/staged.py", "predicted, increases = fresh.predicted", "predicted, increases = posed.predicted", EARLIER),
    ("pruning/staged.py", "                held = self._recalled(staged, stage, given, held)\n                continue", "                continue", EARLIER + " " + REHEARSAL),
    ("pruning/so_far.py", "if s > stage - count}", "if s > stage}", EARLIER),
    ("problem/block_gram.py", "where.unsqueeze(1) == where, self", "where.unsqueeze(1) >= 0, self", BLOCKS),
    ("problem/block_gram.py", "z.repeat(len(self._blocks))", "z.repeat(len(self._blocks)) / 2", BLOCKS),
    ("problem/block_gram.py", "self.gram(place.block).pullback(parted[place.block]", "self.gram(place.block).pullback(parted[0]", BLOCKS),
    ("problem/block_gram.py", "            v = v.new_zeros(self.size).index_copy_(0, support, v)\n", "            pass\n", BLOCKS),
    ("problem/block_gram.py", "return whole if support is None else whole[support]", "return whole", BLOCKS),
    ("problem/block_gram.py", "segments_of(index, self._blocks)", "segments_of(index, self._blocks[:1])", BLOCKS),
    ("problem/block_gram.py", "known[curvature.block_of((self._solved.kept ^ kept).nonzero().squeeze(1))] = False", "pass", BLOCKS),
    ("problem/block_gram.py", "(self._solved.residual == asked).all(1)", "(self._solved.residual == self._solved.residual).all(1)", BLOCKS),
    ("problem/block_gram.py", "self._solved.ridge == ridge", "True", BLOCKS),
    ("problem/block_gram.py", "            todo &= ~known\n", "", BLOCKS),
    ("problem/block_gram.py", "columns.mul_(batch.there.unsqueeze(2))", "pass", BLOCKS),
    ("problem/block_gram.py", "self.curvature.columns(support) * there.unsqueeze(2)", "self.curvature.columns(support)", BLOCKS),
    ("problem/block_gram.py", "masked_fill_(~batch.there, 1.0)", "masked_fill_(~batch.there, 0.0)", BLOCKS),
    ("problem/block_gram.py", "torch.equal(self._batches[0], blocks)", "True", BLOCKS),
    ("problem/block_gram.py", "(blocks, made) if room >= 0 else None", "(blocks, made)", BLOCKS),
    ("problem/block_gram.py", "        if room <= self._room:", "        if True:", BLOCKS),
    ("problem/alike.py", "and sizes[stop] <= widest", "and True", BLOCKS),
    ("problem/alike.py", "            and (stop + 1 - start) * entries(sizes[stop]) <= room\n", "", BLOCKS),
    ("problem/block_gram.py", "some = some.sort().values", "pass", BLOCKS),
    ("problem/rows.py", "return DenseRows(self._data[segment], scale)", "return DenseRows(self._data[segment])", OTHER),
    ("problem/rows.py", "at.start * width, at.stop * width", "0, (at.stop - at.start) * width", OTHER),
    ("problem/factored_rows.py", "segment.start % width == 0 == segment.stop % width", "True", OTHER),
    ("problem/factored_rows.py", "if count != len(self._delta):", "if False:", OTHER),
    ("problem/factored_rows.py", "if len(z) != len(self._delta):", "if False:", OTHER),
    ("problem/joined_rows.py", "if any(part.p % width for part in self._parts):", "if False:", OTHER),
    ("problem/joined_rows.py", "slice(start - own.start, stop - own.start)", "slice(start - own.start, stop)", OTHER),
    ("layout.py", "split = len(shape) > 1 and axes.output == 0", "split = len(shape) > 1", POSED),
    ("pruning/posed.py", "share = self._share(blocks, ridge) if scale else 0.0", "share = 1.0", POSED),
    ("pruning/posed.py", "+ ridge * float(step @ step)", "", POSED),
    ("pruning/posed.py", "return step if blocks == FULL else step * self._along", "return step if True else step * self._along", POSED),
    ("pruning/posed.py", "self.constraint.select(costs(near).sqrt())", "self.constraint.select(self.w_bar)", POSED),
    ("pruning/pose.py", "and self.ridge == AUTO and solver", "and solver", POSED),
    ("pruning/pose.py", "if not solver.takes(BlockGram) and self", "if False and self", POSED),
    ("pruning/auto.py", "loss(r, blocks), ridge, (_COARSE,)", "loss(r, self.blocks), ridge, (_COARSE,)", REHEARSAL),
    ("pruning/auto.py", "if self._blocks is None and self._better(", "if self._better(", REHEARSAL),
    ("pruning/auto.py", "self._blocks, (ridge, scale) = OUTPUTS, rival", "self._blocks = OUTPUTS", POSED),
    ("pruning/auto.py", "            if self._better(found, whole):", "            if True:", POSED),
    ("solvers/cbs.py", 'EVERYTHING - {"structure"} if self.update', "EVERYTHING if self.update", POSE),
    ("pruning/by_layers.py", "fisher.structure == OUTPUTS", "False", POSED),
]  # fmt: skip
