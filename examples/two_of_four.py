"""2:4, two weights kept of every four neighbours: `python two_of_four.py`.

That is the pattern that NVIDIA's sparse matrix units read, from Ampere on. Here the zeros are made;
what gains speed from them is up to the library that runs the network.
"""

import chita
from chita.data.digits import digits


def fits(mask):
    """Whether every four neighbours along the inputs keep two."""
    last = mask.movedim(1, -1)  # (outputs, [positions of a kernel,] inputs)
    return bool((last.reshape(-1, 4).sum(1) == 2).all())


def main():
    """Prune to 2:4 by magnitude, and with a mask and weights that are chosen together."""
    calibration, evaluation = digits()
    model = chita.load_model("digits-cnn")
    print("dense:           ", chita.evaluate(model, evaluation))

    fisher = chita.Fisher(samples=300)
    for solver in ("magnitude", "chita"):
        result = chita.prune(  # conv1 has one input, and so no four neighbours
            model, calibration, budget="2:4", solver=solver, fisher=fisher, ignore="conv1"
        )
        print(f"{solver + ':':17}", chita.evaluate(result.model, evaluation))
    for name, mask in result.masks.items():
        print(f"{name:13}{int(mask.sum()):6,} of {mask.numel():6,} kept, 2:4: {fits(mask)}")
    result.save("two-of-four", force=True)


if __name__ == "__main__":
    main()
