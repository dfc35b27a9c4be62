# A leader's agent starts again, cut off, and does not know of the last change of the rule: it must not put
# the older one in force.
seed 2029
cluster n1 n2 witness w durability quorum-relaxed
weather 1ms 2ms loss 23 twice 32 stray 0
lead n1
load 5 164ms
freeze n1 agent for 1009ms
cut leader for 5500ms
wait 1069ms
calm
wait 2s
maybe resume
expect serving within 60s
maybe resume
expect rule all within 150s
expect serving within 60s
end
