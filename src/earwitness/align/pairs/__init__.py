"""What a model is trained on: clips in, pairs of a chosen and a rejected answer out. Loads no torch.

``stock`` (clips, settings) -> parts, a module each (``twins``, ``preferences``, ``exchange``, ``moments``,
``kept``, ``confuse``, ``general``, ``multiple_choice``, ``answering``, ``mistakes``) -> ``mixtures`` (how much
of which) -> ``making`` (drawn by seed, split by source) -> ``leaks`` (nothing that is tested) ->
``training_set`` (the folder).
"""
