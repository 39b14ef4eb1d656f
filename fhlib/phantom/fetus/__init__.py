"""The fetus in detail: bones of face and skull, brain, body and what floats around it.

Seen in scans of drawn machines, and in every scan below 20 weeks (`fhlib.phantom.anatomy.Head.detailed`). It
adds to the tissues of a head and to its surroundings; the two labels' solids stand in
`fhlib.phantom.anatomy`. Positions are fractions of the OFD in head coordinates. Numbers in these modules without
a named source are unconfirmed general knowledge.
"""
