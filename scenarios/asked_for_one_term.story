# Paused; an operator asks for n2, which dies before it opens. The term after it began by itself, so nobody else may be elected.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
pause
when promote:1 n2 kill n2
failover n2
expect no leader for 15s
