"""Messages, their recipients and their times. Pure decisions without input or output.

``catalogue`` lists every notification in one table; ``notification`` is the life of one notification; ``recipient``
holds preferences and weekly slots; ``quiet_hours`` computes nights and working days; ``postponed`` holds events that
arrived before the data they refer to; ``erasure`` is the erasure of a member.
"""
