"""Diagnostics of the inner optimisation: do gradients of different timesteps agree, and what do weighters make of it?"""
