"""What happens inside a local model: where attention goes, at which layer the answer falls, and what carries it.

Nothing here is loaded with the package: modules that compute on a model import torch, the others do not.

================  =================================================================================================
Looking
``forward``       one pass over prompt and given answer
``groups``        which token is what: sink, template, question, options, marker, video, audio, answer
``attention``     the function that every text layer calls, wrapped in place; exact scores of a few rows
``capture``       attention mass by group, for the rows that matter, while the model runs as it always does
``lens``          what each layer would answer
``moments``       what is kept of an item; ``store``: on the disk; ``columns``: input tokens in a heat map
``effects``       what a trace says, as arrays; ``tables`` and ``charts``: as tables and pictures
Cutting
``edges``         which paths can be cut, and what is kept of a cut
``causal``        what the answer loses when a path is cut; ``knockout``: over a run
``twins``         what the answer takes over from another clip's sound or picture; ``patching``: the doing of it
``contribution``  which head writes the answer, and from which modality
================  =================================================================================================
"""
