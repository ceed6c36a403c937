import math

import pytest

from chita.errors import InputError
from chita.image_format import IMAGENET_MEAN, IMAGENET_STD, ImageFormat


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        *(
            ((0.5,), IMAGENET_STD),
            (IMAGENET_MEAN[:2], IMAGENET_STD[:2]),
            ((), ()),
            ((0.5,), (0.0,)),
        ),
        *((IMAGENET_MEAN, (1.0, 1.0, -1.0)), ((math.nan,), (1.0,)), ((0.5,), (math.inf,))),
    ],
)
def test_formats_that_cannot_be(mean, std):
    with pytest.raises(InputError, match=r"image_mean .* must hold one number each for grey"):
        ImageFormat(mean=mean, std=std)
    with pytest.raises(InputError, match=r"image_size is 0.* a whole number of at least 1"):
        ImageFormat(size=0)
