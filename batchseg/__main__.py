from batchseg.cli import main

main()
