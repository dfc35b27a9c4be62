# n1, deposed but not yet overcome, is taken out while n2 is elected and not open; n2 is lost: n1's word is needed for its own rule.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
wait 1s
write w1
when begin-term any cut n1 for 3s
when promote:3 n2 maybe remove n1
when promote:4 n2 kill n2
kill n1 postmaster
expect history "n3 elected" within 20s
