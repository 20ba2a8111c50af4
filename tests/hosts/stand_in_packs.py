"""Stand-ins for patches of other packs: KJNodes' WanVideoNAG, prompt relays, LoRAs in bypass mode."""

import types

import comfy.ldm.wan.model as comfy_wan
import torch
from comfy.patcher_extension import PatcherInjection


class WanCrossAttentionPatch:
    """A negative prompt as in KJNodes: settings in a closure, a method bound to the attention module."""

    def __init__(self, context, scale, alpha, tau):
        self.nag_context, self.nag_scale, self.nag_alpha, self.nag_tau = context, scale, alpha, tau

    def __get__(self, obj, objtype=None):
        def wrapped_attention(module, x, context, transformer_options=None, **kwargs):
            q = module.norm_q(module.q(x))
            a, b = (
                comfy_wan.optimized_attention(q, module.norm_k(module.k(c)), module.v(c), heads=module.num_heads)
                for c in (context, self.nag_context)
            )
            guided = a * self.nag_scale - b * (self.nag_scale - 1)
            before, after = a.abs().sum(-1, keepdim=True), guided.abs().sum(-1, keepdim=True)
            guided = torch.where(after / before > self.nag_tau, guided / after * before * self.nag_tau, guided)
            return module.o(guided * self.nag_alpha + a * (1 - self.nag_alpha))

        return types.MethodType(wrapped_attention, obj)


class _CrossAttnPatch:
    """Masks cross-attention by time, as prompt relays do."""

    def __get__(self, obj, objtype=None):
        def wrapped(module, x, context, **kwargs):
            raise AssertionError("called")

        return types.MethodType(wrapped, obj)


def bypass_lora(model, low_rank):
    """Return a MODEL with LoRAs as newer ComfyUIs inject them. low_rank(layer): its two matrices."""
    model, before = model.clone(), {}
    blocks = model.model.diffusion_model.blocks

    def inject(_):
        for layer, block in enumerate(blocks):
            down, up = low_rank(layer)
            before[layer] = forward = block.self_attn.o.forward
            block.self_attn.o.forward = lambda x, f=forward, d=down, u=up: f(x) + x @ d.T @ u.T

    def eject(_):
        for layer, block in enumerate(blocks):
            block.self_attn.o.forward = before[layer]

    model.set_injections("bypass_lora", [PatcherInjection(inject=inject, eject=eject)])
    return model
