# While paused nobody is dropped from the rule.
cluster n1 n2 n3 durability quorum
lead n1
wait 1s
pause
kill n3
wait 8s
expect rule n2 n3
