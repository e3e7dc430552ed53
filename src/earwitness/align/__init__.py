"""How is a model repaired? From an audit's clips to a checkpoint that listens, and an audit of that.

``run or clips -> pairs -> training set -> trainer -> checkpoint -> audit again -> compare``

What is trained on is made in ``pairs``: pairs split by source clip, what they were made of, and the
fingerprints of their clips, which no test clip may share. What learns is the thinker's text model (or a low-
rank addition to it); eyes and ears stay as they are, so what they make of a picture and of a sound is computed
once. All answers behind one clip are read as one tree (``tree``): that is exact, and most of the work saved.

Importing this package loads no torch and no trainer.
"""
