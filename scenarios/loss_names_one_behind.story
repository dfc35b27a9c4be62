# An operator gives up n1 and names n3, which lacks what n2 has.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
pause
wait 1s
cut n1 n3
write w2
kill n1
heal
wait 3s
failover n3 losing n1
expect refused TAN0107
resume
expect leader n2|n3 within 10s
expect durable w2
