"""Polygons of a class raster in whole pixels, joined over strips. It imports nothing of batchseg.

One region, three pixels square around a hole, that a strip border cuts along line 2:

    column    0   1   2   3
    line 0    p > > > > > m
     row 0    ^ A   A   A v
    line 1    ^   m < p   v
     row 1    ^ A v   ^ A v
    line 2    ^   p > m   v     the strip border
     row 2    ^ A   A   A v
    line 3    m < < < < < p

A *corner* is a lattice point where the border turns. An *edge* runs along a line from its plus corner `p` to
its minus corner `m`, with the region to its right. The first strip leaves two *strands*, one edge each, that
end in *slots* of the strip border (twice the column; one more with the region to the right): from slot 1
over line 0 to slot 6, and from slot 5 over line 1 to slot 2. The next strip's strand from slot 2 over line 2
to slot 5 closes the inner one, the edge of line 3 the outer one: two *rings*, the shell and its hole. Of a
ring only the plus corners are kept: here (0, 0), (3, 3) and (2, 1), (1, 2), as (column, line).

`borders` walks along a strip's regions, `strips` joins what strips leave open, `rings` holds and counts what
is closed, `tracer` feeds strips through them, and `ragged` has the arrays' arithmetic.
"""
