"""Run folder -> one self-contained page, ``report.html``, that a stranger can read.

What is in it: a verdict in one sentence (:mod:`.verdict`), key figures (:mod:`.figures`), the most telling items
as players (:mod:`.telling`, :mod:`.players`), charts (:mod:`.charts`), the protocols' tables, what the model was
fed and what went wrong (:mod:`.cells`), and how to run it again. The page asks nothing of the network: styles,
scripts and charts are inside it, clips beside it in ``media/`` or, embedded, inside it too.

Whatever a model, a label or a file name says is untrusted text: it is escaped everywhere, and the page's content
policy names its own two scripts by hash, so that no other one can run.

Functions: :func:`build` writes the page, :func:`headline` gives its first sentence.
"""

from earwitness.report.page import build, headline

__all__ = ["build", "headline"]
