"""
Write the generated parts of the reference pages, ``docs/reference/*.md``.

A page is written by hand, except its blocks: each one is between ``<!-- generated: NAME -->`` and
``<!-- end -->``, and has the output of the function ``NAME`` in :mod:`tools.reference.pages`.
``make reference`` writes all blocks; a test fails if a block differs from the declarations in the code.
"""
