"""CNN-M of Chatfield et al. 2014, table 1: what makes a chain this network, and where it can be cut. Light."""

from __future__ import annotations

from streamwatch.embedding.chain import (
    Chain,
    Convolution,
    FullyConnected,
    MaxPool,
    Operation,
    Rectifier,
    ResponseNorm,
    first_difference,
)

FC7 = {"vgg_cnn_m_2048": 2048, "vgg_cnn_m_1024": 1024}
"""The networks, and how many numbers their fc7 gives."""

LAYERS = ("conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7")
"""Where they can be cut. Convolutions and fully connected layers are taken after their ReLU."""


def check(chain: Chain, network: str) -> Chain:
    """The chain itself.

    Raises:
        ValueError: It is not this network; the message says where they part.
    """
    expected = published(FC7[network])
    difference = first_difference(chain.operations, expected.operations)
    if difference is not None:
        raise ValueError(difference[1])
    names = [getattr(operation, "name", None) for operation in chain.operations]
    if names[: len(expected.operations)] != [getattr(each, "name", None) for each in expected.operations]:
        raise ValueError(f"its layers are called {', '.join(filter(None, names))}, expected conv1, pool1 … fc7")
    return chain


def published(fc7: int, *, input_px: int = 224) -> Chain:
    """The network as it is published, and LRN and pools as the authors' own files have them.

    Kernels, strides and channels are what makes it this network; borders, LRN's and the pools' numbers are taken from
    the user's prototxt, and these here only stand where no file has spoken yet.
    """
    return Chain(
        input_px=input_px,
        operations=(
            Convolution(name="conv1", channels=96, kernel=7, stride=2, pad=0),
            Rectifier(),
            ResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0),
            MaxPool(name="pool1", kernel=3, stride=2, pad=0),
            Convolution(name="conv2", channels=256, kernel=5, stride=2, pad=1),
            Rectifier(),
            ResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0),
            MaxPool(name="pool2", kernel=3, stride=2, pad=0),
            *_third(3),
            *_third(4),
            *_third(5),
            MaxPool(name="pool5", kernel=3, stride=2, pad=0),
            FullyConnected(name="fc6", outputs=4096),
            Rectifier(),
            FullyConnected(name="fc7", outputs=fc7),
            Rectifier(),
        ),
    )


def _third(number: int) -> tuple[Operation, Operation]:
    return Convolution(name=f"conv{number}", channels=512, kernel=3, stride=1, pad=1), Rectifier()


def cut(chain: Chain, layer: str) -> Chain:
    """The chain up to a layer, the ReLU behind it included.

    Raises:
        KeyError: It has no operation of that name.
    """
    for index, operation in enumerate(chain.operations):
        if getattr(operation, "name", None) == layer:
            end = index + 1
            if end < len(chain.operations) and isinstance(chain.operations[end], Rectifier):
                end += 1
            return Chain(input_px=chain.input_px, operations=chain.operations[:end])
    raise KeyError(layer)
