from batchseg.cli.main import main

main()
