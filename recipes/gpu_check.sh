#!/usr/bin/env bash
# What a GPU is good for here, in at most 8 minutes on a modern one: whether both devices agree, what parts of a fit cost, and
# one fitted cell of CIFAR-10's architecture (35.7 M parameters, random weights) with 500 images.
#
#     recipes/gpu_check.sh [DEVICE] [FOLDER]        # cuda and runs/gpu_check, if left out
#
# DEVICE cpu with SMALL=1 goes through the first and the last step at toy sizes, to try the script itself.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-cuda}
out=${2:-runs/gpu_check}
mkdir -p "$out"

if [ "${SMALL:-}" ]; then
    sizes=(--set sampling.images=4 --set sampling.steps=4 --set calibration.trajectories=4 --set calibration.samples=16
        --set calibration.batch=4 --set sampling.batch=4 --set methods.qdiffusion.sampler.points=4
        --set methods.qdiffusion.reconstruction.iterations=2 --set methods.qdiffusion.reconstruction.step_iterations=2
        --set methods.qdiffusion.reconstruction.batch=4)
    kind=ddpm
else
    sizes=(--set sampling.images=500 --set sampling.batch=250 --set calibration.trajectories=64 --set calibration.samples=1280
        --set calibration.batch=64 --set methods.qdiffusion.reconstruction.iterations=40
        --set methods.qdiffusion.reconstruction.step_iterations=10)
    kind=ddpm-cifar10
fi

# The limits add up to less than 8 minutes; a part that is stopped or fails does not take the others with it.
failed=0
echo "== tests on the device"
timeout 100 python -m pytest -q tests/gpu || failed=1

if [ ! "${SMALL:-}" ]; then
    echo "== parts of a fit"
    timeout 70 python -m ptqbench bench fit --device "$device" --rounds 10 | tee "$out/fit.txt" || failed=1
fi

echo "== CIFAR-10's architecture: published batch of 32, few iterations, 500 images"
timeout 290 python -m ptqbench run recipes/cifar10_ddpm.toml --device "$device" --workers 1 --out "$out/run" --cache "$out/cache" \
    --set model="{ use = 'random-pipeline', kind = '$kind' }" --set "evaluation.metrics=['latent-error', 'psnr']" \
    --set evaluation.probes=8 --set 'sweep.bits=["W4A8"]' "${sizes[@]}" \
    --only nearest/W4A8 --only qdiffusion/W4A8 | tee "$out/run.txt" || failed=1

echo "== what it took"
python -m ptqbench show "$out/run" --all | tee "$out/times.txt" || failed=1
exit "$failed"
