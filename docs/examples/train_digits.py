"""Train the network of ``qsdk demo`` and write its two files.

    pip install torch onnx scikit-learn numpy
    python docs/examples/train_digits.py [--model digits.onnx] [--images digits.npz] [--seed 0]

The network is a stack of fourteen 3x3 convolutions and one linear layer. In training each
convolution has an identity branch beside it and both end in a batch norm, as in RepVGG (Ding et
al. 2021, arXiv:2101.03697) without its 1x1 branch; afterwards all of that is folded into the one
convolution. It takes ``images / 16`` as float32 of shape (batch, 1, 8, 8) and answers with ten
logits. Training takes half a minute on one CPU core. Two runs on one machine write the same
bytes; another processor or another torch may round differently.

The data: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, doi:10.24432/C50P49, CC BY 4.0. scikit-learn ships a copy of its test set,
1,797 images of 8x8 pixels with values 0 to 16; 899 of them are held
out and never trained on.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

DEMO = Path(__file__).resolve().parents[2] / "qsdk" / "demo"
WIDTHS = [16] * 8 + [24] * 6  # output channels of conv1, conv2, ...
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 100, 64, 3e-3, 1e-4


class Block(nn.Module):
    """``relu(norm(conv(x)) + norm(x))``, the second term only where the shape stays."""

    def __init__(self, inputs, outputs):
        super().__init__()
        stride = 1 if inputs in (1, outputs) else 2  # half the image where the width grows
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.identity = nn.BatchNorm2d(outputs) if inputs == outputs else None

    def forward(self, x):
        y = self.norm(self.conv(x))
        return F.relu(y if self.identity is None else y + self.identity(x))

    def folded(self):
        """Weight and bias of the one convolution that equals this block before its ReLU."""
        gain, bias = gain_and_bias(self.norm)
        weight = self.conv.weight.detach().double() * gain.reshape(-1, 1, 1, 1)
        if self.identity is not None:
            gain, identity_bias = gain_and_bias(self.identity)
            weight[:, :, 1, 1] += torch.diag(gain)  # the middle tap of each channel's own kernel
            bias = bias + identity_bias
        return weight.float().numpy(), bias.float().numpy()


def gain_and_bias(norm):
    """A trained batch norm as ``gain * x + bias`` per channel, in float64."""
    gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return gain, norm.bias.detach().double() - gain * norm.running_mean.double()


class DigitsNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*map(Block, [1, *WIDTHS[:-1]], WIDTHS))
        self.fc = nn.Linear(WIDTHS[-1], 10)

    def forward(self, x):
        return self.fc(self.blocks(x).mean((2, 3)))


def as_input(images):
    return torch.from_numpy((images / 16).astype(np.float32)[:, np.newaxis])


def shifted(images):
    """Each image moved by -1, 0 or 1 pixel in both directions, zeros coming in."""
    shift = torch.randint(0, 3, (2, len(images), 1))
    rows, columns = shift + torch.arange(8)
    which = torch.arange(len(images)).reshape(-1, 1, 1)
    padded = F.pad(images, (1, 1, 1, 1))[:, 0]
    return padded[which, rows[:, :, None], columns[:, None, :]][:, None]


def train(net, images, labels):
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(images) // BATCH  # per epoch; an incomplete last batch is left out
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, EPOCHS * steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for batch in order[: steps * BATCH].split(BATCH):
            loss = F.cross_entropy(net(shifted(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()


def onnx_model(net):
    """The trained net as Conv, Relu, ..., GlobalAveragePool, Flatten, Gemm."""
    nodes, constants = [], []

    def add(kind, name, weights=(), output=None, **attributes):
        names = [f"{name}.weight", f"{name}.bias"][: len(weights)]
        constants.extend(map(numpy_helper.from_array, weights, names))
        inputs = [nodes[-1].output[0] if nodes else "input", *names]
        nodes.append(helper.make_node(kind, inputs, [output or name], name, **attributes))

    for number, block in enumerate(net.blocks, 1):
        shape = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": block.conv.stride}
        add("Conv", f"conv{number}", block.folded(), **shape)
        add("Relu", f"relu{number}")
    add("GlobalAveragePool", "pool")
    add("Flatten", "flatten")
    fc = [net.fc.weight.detach().numpy(), net.fc.bias.detach().numpy()]
    add("Gemm", "fc", fc, output="logits", transB=1)

    takes = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])
    gives = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "digits", [takes], [gives], constants)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="qsdk")
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    parser = argparse.ArgumentParser(description="Train the network of `qsdk demo`.")
    parser.add_argument("--model", type=Path, default=DEMO / "digits.onnx")
    parser.add_argument("--images", type=Path, default=DEMO / "digits.npz")
    parser.add_argument("--seed", type=int, default=0, help="of the training, not of the split")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the order of sums, and with it the last bit, depends on it
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)

    data = load_digits()
    images, labels = data.images.astype(np.uint8), data.target.astype(np.uint8)
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=0.5, stratify=labels, random_state=0
    )
    net = DigitsNet()
    train(net, as_input(images), torch.from_numpy(labels).long())

    onnx.save(onnx_model(net.eval()), options.model)
    np.savez_compressed(options.images, images=test_images, labels=test_labels)
    with torch.no_grad():
        right = (net(as_input(test_images)).argmax(1).numpy() == test_labels).sum()
    print(f"{right} of {len(test_labels)} held-out digits right, {right / len(test_labels):.2%}")


if __name__ == "__main__":
    main()
