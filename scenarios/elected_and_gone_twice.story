# Leaders are elected and go before they open. What the last one of them has is enough for all before it,
# though their own copies are being made anew.
seed 2934
cluster n1 n2 n3 durability quorum
store lost 94 late 0 slow 169
late 5 tail
load 5 178ms
cut leader for 5500ms
wait 1035ms
when member-state any cut it for 1775ms
wait 704ms
cut leader for 5500ms
wait 1138ms
wait 488ms
flap leader n2 7
wait 635ms
wait 974ms
wait 1006ms
leaderless for 59ms
wait 544ms
when promote:6 any cut it for 395ms
wait 569ms
heal
wait 534ms
wait 572ms
calm
maybe resume
expect serving within 60s
maybe resume
expect rule all within 150s
expect serving within 60s
end
