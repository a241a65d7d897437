"""A file for dask-jobqueue, and what Slurm is given for it."""

ASKED = """
queue: gpu
account: lab42
cores: 4
processes: 1
memory: 32GB
walltime: '08:00:00'
python: python
worker-extra-args: ['--resources', 'GPU=1', '--nthreads', '1']
job_extra_directives: ['--gres=gpu:1']
job_script_prologue: ['module load cuda']
"""
SCRIPT = """\
#!/usr/bin/env bash

#SBATCH -J dask-worker
#SBATCH -p gpu
#SBATCH -A lab42
#SBATCH -n 1
#SBATCH --cpus-per-task=4
#SBATCH --mem=30G
#SBATCH -t 08:00:00
#SBATCH --gres=gpu:1
module load cuda
python -m distributed.cli.dask_worker ADDRESS --name dummy-name --nthreads 4 --memory-limit 29.80GiB --nanny \
--death-timeout 60 --resources GPU=1 --nthreads 1
"""
"""What sbatch is given: the directives by Slurm's documentation of sbatch; the last line starts a worker."""
