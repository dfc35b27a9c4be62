# The leader is cut off when it was agreed that its first standbys are in the rule, before it knows.
# To it the rule of the leader alone is still one of its own, and nobody's grant is enough for that: its guard never ends it, and old reads go on (I9, C-25).
cluster n1 n2 n3 durability quorum
lead n1
cut n1
expect term 2 leader n2|n3 within 10s
wait 20s
load 60 40ms
wait 2s
end
