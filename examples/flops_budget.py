"""At most so many FLOPs: `python flops_budget.py`.

Weights early in a convolutional network are used at many positions and cost many FLOPs, those late
in it at few. A count of weights does not see that; a budget of FLOPs does, alone or with a count.
"""

import chita
from chita.data.digits import digits


def told(name, result, evaluation):
    """One line on a result."""
    record = result.record
    share = 100 * record.flops / record.dense_flops
    print(f"{name:20}{share:5.1f} % of FLOPs, {record.nnz:6,} weights, ", end="")
    print(chita.evaluate(result.model, evaluation))


def main():
    """Prune by weights, by FLOPs and by both, and tell where the weights went."""
    calibration, evaluation = digits()
    model = chita.load_model("digits-cnn")
    budgets = {
        "weights": chita.Sparsity(0.8),
        "FLOPs": chita.Flops(0.15),
        "FLOPs and weights": chita.Flops(0.15) & chita.Sparsity(0.85),
    }
    results, fisher = {}, chita.Fisher(samples=300)
    for name, budget in budgets.items():
        results[name] = chita.prune(model, calibration, budget=budget, solver="bso", fisher=fisher)
        told(name, results[name], evaluation)

    print("kept, of each tensor, by weights and by FLOPs:")
    pairs = zip(results["weights"].layers, results["FLOPs"].layers, strict=True)
    for one, other in pairs:
        print(f"{one.name:14}{one.weights:7,}{one.kept:7,}{other.kept:7,}")
    results["FLOPs"].save("few-flops", force=True)


if __name__ == "__main__":
    main()
