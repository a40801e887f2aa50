"""The official Vivim said once more, slowly: what ``vivim.extract.vivim`` is judged by where there is no golden array.

Written from the official repository's description alone (scott-yjyang/Vivim @2bcd6190, shared/reference/vivim-encoder.md,
whose sections are named below), not from this package. Pure functions of the tensors of an official state dict; the
precision is that of the tensors. Nothing is stacked, fused or chunked: one loop per head, direction and scan step.

B clips, T frames, M = B*T frames with the clip slow, H W rows and columns of a level, N = H*W positions in raster order,
L = T*N tokens with time slow, C channels of a level, D = 2C inner channels of a mixer, S states, R rank of dt, K taps.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = Mapping[str, Tensor]


def under(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors below ``prefix.``, by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def count(tensors: Tensors, prefix: str) -> int:
    """How many numbers follow ``prefix.``: the layers of a stage."""
    return len({name.split(".")[0] for name in under(tensors, prefix)})


def to_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """Tokens (.., tokens, C) as a map (.., C, *size)."""
    return x.transpose(1, 2).unflatten(2, tuple(size))


def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def linear(p: Tensors, x: Tensor) -> Tensor:
    return F.linear(x, p["weight"], p.get("bias"))


def layer_norm(p: Tensors, x: Tensor) -> Tensor:
    """eps is 1e-5 everywhere (section 1.3: Hugging Face ignores its own ``layer_norm_eps``)."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5) * p["weight"] + p["bias"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def patch_embed(p: Tensors, x_MCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Section 1.2: kernel 7 stride 4 padding 3, or kernel 3 stride 2 padding 1; tokens (M, N, C) and their rows and columns."""
    kernel = p["proj.weight"].shape[-1]
    y = F.conv2d(x_MCHW, p["proj.weight"], p["proj.bias"], stride={7: 4, 3: 2}[kernel], padding=kernel // 2)
    return layer_norm(under(p, "layer_norm"), to_tokens(y)), (y.shape[2], y.shape[3])


def attention(p: Tensors, x_MNC: Tensor, size: tuple[int, int], heads: int) -> Tensor:
    """Section 1.3, Attn: keys and values come from a map shrunk by a strided convolution, where the stage has one."""
    source = x_MNC
    if "self.sr.weight" in p:
        shrunk = F.conv2d(to_map(x_MNC, size), p["self.sr.weight"], p["self.sr.bias"], stride=p["self.sr.weight"].shape[-1])
        source = layer_norm(under(p, "self.layer_norm"), to_tokens(shrunk))
    query, key, value = linear(under(p, "self.query"), x_MNC), linear(under(p, "self.key"), source), linear(under(p, "self.value"), source)
    width = x_MNC.shape[-1] // heads
    found = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = torch.einsum("mqd,mkd->mqk", query[..., own], key[..., own]) / math.sqrt(width)
        found.append(torch.einsum("mqk,mkd->mqd", torch.softmax(scores, -1), value[..., own]))
    return linear(under(p, "output.dense"), torch.cat(found, -1))


def mix_ffn(p: Tensors, x: Tensor, size: Sequence[int]) -> Tensor:
    """Sections 1.3 and 1.4 (DSF): linear, depthwise convolution over (H, W) or (T, H, W) with zeros around, GELU, linear."""
    first, convolve, second = ("dense1", F.conv2d, "dense2") if len(size) == 2 else ("fc1", F.conv3d, "fc2")
    wide = linear(under(p, first), x)
    mixed = convolve(to_map(wide, size), p["dwconv.dwconv.weight"], p["dwconv.dwconv.bias"], padding=1, groups=wide.shape[-1])
    return linear(under(p, second), gelu(to_tokens(mixed)))


def walks(frames: int, positions: int) -> dict[str, Tensor]:
    """Section 1.5, P_s: which token stands at each step of a walk, by the walk's suffix in parameter names."""
    steps = [t * positions + n for t in range(frames) for n in range(positions)]
    along_time = [t * positions + n for n in range(positions) for t in range(frames)]
    return {"": torch.tensor(steps), "_b": torch.tensor(steps[::-1]), "_s": torch.tensor(along_time)}


def selective_scan(u_BLD: Tensor, dt_BLD: Tensor, A_DS: Tensor, B_BLS: Tensor, C_BLS: Tensor) -> Tensor:
    """Section 1.5 c without D u: h_l = exp(dt_l A) h_(l-1) + dt_l u_l B_l, y_l = <h_l, C_l> (Mamba, arXiv 2312.00752, algorithm 2)."""
    kept_BLDS = torch.exp(dt_BLD[..., None] * A_DS)
    added_BLDS = (dt_BLD * u_BLD)[..., None] * B_BLS[:, :, None, :]
    state_BDS = torch.zeros_like(added_BLDS[:, 0])
    states = []
    for kept_BDS, added_BDS in zip(kept_BLDS.unbind(1), added_BLDS.unbind(1), strict=True):
        state_BDS = kept_BDS * state_BDS + added_BDS
        states.append(state_BDS)
    return torch.einsum("blds,bls->bld", torch.stack(states, 1), C_BLS)


def one_walk(p: Tensors, suffix: str, x_BLD: Tensor) -> Tensor:
    """Section 1.5 a to c, on tokens in the order of the walk: causal depthwise convolution, SiLU, selective scan, D u."""
    weight_DK, steps = p[f"conv1d{suffix}.weight"][:, 0], x_BLD.shape[1]
    padded = F.pad(x_BLD, (0, 0, weight_DK.shape[1] - 1, 0))
    taps = [weight_DK[:, k] * padded[:, k : k + steps] for k in range(weight_DK.shape[1])]
    u_BLD = silu(sum(taps, p[f"conv1d{suffix}.bias"]))
    A_DS = -torch.exp(p[f"A{suffix}_log"])
    rank, states = p[f"dt_proj{suffix}.weight"].shape[1], A_DS.shape[1]
    dt_BLR, B_BLS, C_BLS = linear(under(p, f"x_proj{suffix}"), u_BLD).split([rank, states, states], -1)
    dt_BLD = torch.log1p(torch.exp(linear(under(p, f"dt_proj{suffix}"), dt_BLR)))
    return selective_scan(u_BLD, dt_BLD, A_DS, B_BLS, C_BLS) + p[f"D{suffix}"] * u_BLD


def mixer(p: Tensors, x_BLC: Tensor, frames: int) -> Tensor:
    """Section 1.5: one in and one out projection, three walks with their own parameters, each gated, their mean."""
    x_BLD, z_BLD = linear(under(p, "in_proj"), x_BLC).chunk(2, -1)
    orders = walks(frames, x_BLC.shape[1] // frames)
    total = torch.zeros_like(x_BLD)
    for suffix, order in orders.items():
        y_BLD = one_walk(p, suffix, x_BLD[:, order]) * silu(z_BLD[:, order])
        total = total + y_BLD[:, torch.argsort(order)]
    return linear(under(p, "out_proj"), total / len(orders))


def plain_features(tensors: Tensors, frames_BTCHW: Tensor, heads: Sequence[int]) -> list[Tensor]:
    """F1..F4, each (M, C, H, W), of the encoder in eval mode (sections 0.1 and 1.4).

    Args:
        tensors: an official state dict: ``encoder.downsample_layers...``, ``encoder.stages...``. The stage norms are never applied.
        heads: attention heads of each stage, which no tensor tells. All else is read from shapes and names.
    """
    clips, frames = frames_BTCHW.shape[:2]
    x_MCHW, levels = frames_BTCHW.flatten(0, 1), []
    for stage in range(4):
        x, size = patch_embed(under(tensors, f"encoder.downsample_layers.patch_embeddings.{stage}"), x_MCHW)
        for j in range(count(tensors, f"encoder.downsample_layers.block.{stage}")):
            p = under(tensors, f"encoder.downsample_layers.block.{stage}.{j}")
            x = x + attention(under(p, "attention"), layer_norm(under(p, "layer_norm_1"), x), size, heads[stage])
            x = x + mix_ffn(under(p, "mlp"), layer_norm(under(p, "layer_norm_2"), x), size)
        x = x.reshape(clips, -1, x.shape[-1])
        for j in range(count(tensors, f"encoder.stages.{stage}")):
            p = under(tensors, f"encoder.stages.{stage}.{j}.0")
            x = x + mixer(under(p, "mamba"), layer_norm(under(p, "norm1"), x), frames)
            x = x + mix_ffn(under(p, "mlp"), layer_norm(under(p, "norm2"), x), (frames, *size))
        x_MCHW = to_map(x.reshape(clips * frames, -1, x.shape[-1]), size)
        levels.append(x_MCHW)
    return levels


def plain_decoder(tensors: Tensors, levels: Sequence[Tensor]) -> Tensor:
    """The unified map (M, E, H1, W1) of ``plain_features`` in eval mode (section 1.7; eq. 6 of the paper, before heads)."""
    widened = []
    for i, level in enumerate(levels):
        projected = to_map(linear(under(tensors, f"decoder.linear_c.{i}.proj"), to_tokens(level)), level.shape[2:])
        widened.append(resize(projected, levels[0].shape[2:]))
    fused = F.conv2d(torch.cat(widened[::-1], 1), tensors["decoder.linear_fuse.weight"])
    norm = {name: tensor[:, None, None] for name, tensor in under(tensors, "decoder.batch_norm").items() if tensor.dim()}
    normed = (fused - norm["running_mean"]) / torch.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
    return torch.clamp(normed, min=0)


def plain_logits(tensors: Tensors, levels: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mask and edge logits (M, 1, *size) of ``plain_features``, in eval mode (section 1.7); ``size`` is that of the frames."""
    mask = F.conv2d(plain_decoder(tensors, levels), tensors["out.weight"], tensors["out.bias"])
    edge = F.conv2d(levels[0], tensors["edgeocr_cls_head.weight"], tensors["edgeocr_cls_head.bias"])
    return resize(mask, size), resize(edge, size)
