# Sourced in every container of these images, by sh. The project's source is bound in: ENTROBENCH_ROOT, else the
# working folder, says where. A variable that is already set wins where it is written ${NAME:-...}.
export PATH=/opt/entrobench/bin:/usr/local/bin:/usr/bin:/bin
export ENTROBENCH_ROOT="${ENTROBENCH_ROOT:-$PWD}"
export PYTHONPATH="$ENTROBENCH_ROOT/src" PYTHONNOUSERSITE=1
unset PYTHONHOME VIRTUAL_ENV
# No hub unless somebody asks for it
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" TRANSFORMERS_OFFLINE="${TRANSFORMERS_OFFLINE:-1}"
export HF_DATASETS_OFFLINE="${HF_DATASETS_OFFLINE:-1}"
# There is no home: what libraries cache on their own goes to the scratch folder, which is bound as /tmp
export XDG_CACHE_HOME="/tmp/cache-$(id -u)"
export TRITON_HOME="$XDG_CACHE_HOME" MPLCONFIGDIR="$XDG_CACHE_HOME/matplotlib"
export FLASHINFER_WORKSPACE_BASE="$XDG_CACHE_HOME"
# vLLM's own sampler: flashinfer's is compiled at the start, and links libraries by names that the packages lack
export VLLM_USE_FLASHINFER_SAMPLER=0
# The CUDA image has its compiler from Python packages; flashinfer and Triton look for it here
for folder in /opt/entrobench/lib/python3*/site-packages/nvidia/cu13; do
  if [ -d "$folder" ]; then export CUDA_HOME="$folder"; fi
done
