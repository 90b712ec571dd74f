"""The part of Caffe's file format that is needed here, as protobuf messages made at run time.

Field numbers are Caffe's (src/caffe/proto/caffe.proto). Numbers of blobs are declared as bytes: that is how packed
floats stand in the file, and NumPy reads them in place instead of one Python float after another.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_V1_TYPES = {
    "NONE": 0, "ACCURACY": 1, "BNLL": 2, "CONCAT": 3, "CONVOLUTION": 4, "DATA": 5, "DROPOUT": 6, "EUCLIDEAN_LOSS": 7,
    "FLATTEN": 8, "HDF5_DATA": 9, "HDF5_OUTPUT": 10, "IM2COL": 11, "IMAGE_DATA": 12, "INFOGAIN_LOSS": 13,
    "INNER_PRODUCT": 14, "LRN": 15, "MULTINOMIAL_LOGISTIC_LOSS": 16, "POOLING": 17, "RELU": 18, "SIGMOID": 19,
    "SOFTMAX": 20, "SOFTMAX_LOSS": 21, "SPLIT": 22, "TANH": 23, "WINDOW_DATA": 24, "ELTWISE": 25, "POWER": 26,
    "SIGMOID_CROSS_ENTROPY_LOSS": 27, "HINGE_LOSS": 28, "MEMORY_DATA": 29, "ARGMAX": 30, "THRESHOLD": 31,
    "DUMMY_DATA": 32, "SLICE": 33, "MVN": 34, "ABSVAL": 35, "SILENCE": 36, "CONTRASTIVE_LOSS": 37, "EXP": 38,
    "DECONVOLUTION": 39,
}  # fmt: skip
_ENUMS = {
    "V1Type": _V1_TYPES,
    "Region": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    "Pool": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "Rounding": {"CEIL": 0, "FLOOR": 1},
}
# message → field → (number, type, default); `*` behind a type: repeated; a type with a capital: a message or enum.
_Field = tuple[int, str, str]
_PARAMETERS: dict[str, _Field] = {
    "convolution_param": (106, "Convolution", ""),
    "inner_product_param": (117, "InnerProduct", ""),
    "lrn_param": (118, "Lrn", ""),
    "pooling_param": (121, "Pooling", ""),
    "relu_param": (123, "Relu", ""),
}
_V1_NUMBERS = {"convolution_param": 10, "inner_product_param": 17, "lrn_param": 18, "pooling_param": 19}
_V1_NUMBERS["relu_param"] = 30
_MESSAGES: dict[str, dict[str, _Field]] = {
    "Shape": {"dim": (1, "int64*", "")},
    "Blob": {
        "num": (1, "int64", "0"),
        "channels": (2, "int64", "0"),
        "height": (3, "int64", "0"),
        "width": (4, "int64", "0"),
        "data": (5, "bytes*", ""),
        "shape": (7, "Shape", ""),
        "double_data": (8, "bytes*", ""),
    },
    "Unpacked": {"data": (5, "float*", ""), "double_data": (8, "double*", "")},
    "Convolution": {
        "num_output": (1, "uint32", ""),
        "bias_term": (2, "bool", "true"),
        "pad": (3, "uint32*", ""),
        "kernel_size": (4, "uint32*", ""),
        "group": (5, "uint32", "1"),
        "stride": (6, "uint32*", ""),
        "pad_h": (9, "uint32", "0"),
        "pad_w": (10, "uint32", "0"),
        "kernel_h": (11, "uint32", ""),
        "kernel_w": (12, "uint32", ""),
        "stride_h": (13, "uint32", ""),
        "stride_w": (14, "uint32", ""),
        "axis": (16, "int32", "1"),
        "dilation": (18, "uint32*", ""),
    },
    "InnerProduct": {
        "num_output": (1, "uint32", ""),
        "bias_term": (2, "bool", "true"),
        "axis": (5, "int32", "1"),
        "transpose": (6, "bool", "false"),
    },
    "Lrn": {
        "local_size": (1, "uint32", "5"),
        "alpha": (2, "float", "1"),
        "beta": (3, "float", "0.75"),
        "norm_region": (4, "Region", "ACROSS_CHANNELS"),
        "k": (5, "float", "1"),
    },
    "Pooling": {
        "pool": (1, "Pool", "MAX"),
        "kernel_size": (2, "uint32", ""),
        "stride": (3, "uint32", "1"),
        "pad": (4, "uint32", "0"),
        "kernel_h": (5, "uint32", ""),
        "kernel_w": (6, "uint32", ""),
        "stride_h": (7, "uint32", ""),
        "stride_w": (8, "uint32", ""),
        "pad_h": (9, "uint32", "0"),
        "pad_w": (10, "uint32", "0"),
        "global_pooling": (12, "bool", "false"),
        "round_mode": (13, "Rounding", "CEIL"),
    },
    "Relu": {"negative_slope": (1, "float", "0")},
    "Input": {"shape": (1, "Shape*", "")},
    "Layer": {
        "name": (1, "string", ""),
        "type": (2, "string", ""),
        "bottom": (3, "string*", ""),
        "top": (4, "string*", ""),
        "blobs": (7, "Blob*", ""),
        "input_param": (143, "Input", ""),
        **_PARAMETERS,
    },
    "V1Layer": {
        "bottom": (2, "string*", ""),
        "top": (3, "string*", ""),
        "name": (4, "string", ""),
        "type": (5, "V1Type", "NONE"),
        "blobs": (6, "Blob*", ""),
        **{name: (_V1_NUMBERS[name], kind, default) for name, (_, kind, default) in _PARAMETERS.items()},
    },
    "Net": {
        "name": (1, "string", ""),
        "layers": (2, "V1Layer*", ""),
        "input": (3, "string*", ""),
        "input_dim": (4, "int64*", ""),
        "input_shape": (8, "Shape*", ""),
        "layer": (100, "Layer*", ""),
    },
}


@cache
def message(name: str) -> Any:
    """A message class: `Net`, `Blob`, `Unpacked` (a blob whose numbers stand one by one), or a part of these."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"streamwatch.caffe.{name}"))


@cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    types = descriptor_pb2.FieldDescriptorProto
    file: Any = descriptor_pb2.FileDescriptorProto(
        name="streamwatch/caffe.proto", package="streamwatch.caffe", syntax="proto2"
    )
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, members in _MESSAGES.items():
        entry = file.message_type.add(name=name)
        for member, (number, kind, default) in members.items():
            label = types.LABEL_REPEATED if kind.endswith("*") else types.LABEL_OPTIONAL
            field = entry.field.add(name=member, number=number, label=label)
            kind = kind.rstrip("*")
            if kind[0].isupper():
                field.type = types.TYPE_ENUM if kind in _ENUMS else types.TYPE_MESSAGE
                field.type_name = f".streamwatch.caffe.{kind}"
            else:
                field.type = getattr(types, f"TYPE_{kind.upper()}")
            if default and label == types.LABEL_OPTIONAL:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
