"""Messages, their recipients and their times. Pure decisions without input or output.

``notification_schedule`` lists every notification, its recipients and its times in one table. ``notification`` is the
life of one notification. ``recipient`` holds preferences and weekly slots. ``quiet_hours`` computes nights and working
days. ``early_events`` holds events that arrived before the data they refer to.
"""
