"""What the gateway promises, with everything around it broken: processes killed, ways cut, schedulers hung, disks full.

Short by default; `JOBGATE_FAULTS=long` (make faults) has hundreds of jobs for each host, a thousand where the gateway
is killed. `JOBGATE_FAULTS_SEED` gives other random moments. Each case reports its figures, which stand in a table at
the end of the run.
"""
