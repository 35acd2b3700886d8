"""`stoker train`: fine-tuning that survives its machine. `python -m stoker.train FILE` is one process of a run.

exits         what a process of a run ends with
formats       a line of data -> an example, or why not
encoding      an example -> tokens and their weights in the loss, by the model's own template
source        data of a run: which rows each step has, for whichever number of processes
packing       examples into rows; order of examples
model         base weights -> a torch module; LoRA
export        a checkpoint -> a folder that engines serve
losses        what is minimised
optimizer     AdamW, the learning rate at a step
gradients     sums over passes and processes; the canonical order
world         processes of the run, and what they tell each other
state         all that has to round-trip, as named pieces
saving        checkpoints behind training
loop          the steps
interruption  notice, rebalance, SIGTERM -> a wish that is read at a step's end
sigterm       held from the first moment of `stoker train` to its last
launching     the processes of one node, begun again as one
planning      does it fit, how long does a save take, which guarantee holds: before anything starts
buying        the run on other machines: time and cost; spot or on demand
record        what happened in a run, line by line
accounting    what it comes to: losses, lost work, seconds and dollars by cause
live          the same up to now, at each step
budget        when a run has to stop, so that its checkpoint is still paid for
progress      the line that a person watches
tracking      TensorBoard, MLflow, CloudWatch
runs          where runs are: list, show
evaluation    questions with checked answers -> samples
gate          samples -> a verdict
"""
