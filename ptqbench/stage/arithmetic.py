"""What this process must hold fixed for numbers to be repeatable: threads, float32 in earnest, deterministic kernels."""

from __future__ import annotations

import torch


def fix_arithmetic(threads: int) -> None:
    """Compute with `threads` CPU threads, in full float32, and with deterministic convolutions.

    On a CPU the number of threads decides the order of sums, and so their last bits. On CUDA torch lets cuDNN round
    operands to TF32 (10 bits of mantissa) unless it is told not to, while the protocol says float32; and cuDNN may choose
    kernels that add up in any order, while a resumed run must give an uninterrupted one's numbers.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
